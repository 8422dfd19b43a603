// Tooltips for controls that have no place for one of their own. Whoever points at a control sees its title; whoever hears
// the page gets the same words as the description of the field inside. Fields come and go: a look after every change.

const TIPS = {
  "#model": "The model that answers. What the device cannot hold is grey, with the reason",
  "#image button[aria-label='Upload file'], #image .upload-container button, #image button[aria-label*='upload']": "Choose an image file, or drop one here",
  "#image button[aria-label='Capture from camera']": "Take a picture with the camera",
  "#image button[aria-label='Paste from clipboard']": "Paste an image that was copied elsewhere",
  "#add-image": "Add further images to the same question",
  "#question": "What the model is asked about the image. Enter asks",
  "#ask": "Answer the question with all tokens and with the kept ones",
  "#follow-up": "Ask this as the next turn of a conversation: both models remember their own answers",
  "#anew": "Ask this as the first turn of a new conversation",
  "#suggestions button": "Ask this question",
  "#method": "How the tokens to keep are chosen. What this model cannot run is grey, with the reason",
  "#style label:has([value=dimmed])": "Kept patches as they are, pruned ones dark and grey",
  "#style label:has([value=grid])": "Outlines of all patches, those of kept ones stand out",
  "#style label:has([value=heat])": "How important each patch is, from low to high",
  "#style label:has([value=order])": "Which patch was picked first, second and so on",
  "#style label:has([value=merged])": "Patches that were merged into one token share a colour (merging methods only)",
  "#retention": "Share of the visual tokens that the model keeps: 0.25 keeps a quarter",
  "#scope": "Whether the share is kept of all images together, of each image, or of each tile",
  "#importance-weight": "How much a patch's own importance counts. λ = importance / (importance + diversity)",
  "#diversity-weight": "How much it counts that a patch differs from those already kept",
  "#fewest-tokens": "Look for the smallest share of tokens at which the answer stays the same",
  "#fewest-lambda": "Look for the λ that keeps the answer with the fewest tokens",
  "#stop, #fewest-stop, #compare-stop, #batch-stop, #export-stop, #pays-stop": "Stop what is running; what is there so far stays",
  "#curve-methods label": "Measure a curve for this method too",
  "#measure": "Measure the curves of the ticked methods for the present image and question",
  "#tradeoff .label-wrap": "Which methods get a curve",
  "#guide > button": "Close this; the button at the top brings it back",
  "#add-present": "Put what Explore shows now beside the others",
  "#add-random": "Put random selection of as many tokens beside the others",
  "#add-uniform": "Put evenly spaced tokens, as many, beside the others",
  "#compare-run": "Work out all settings again",
  "#batch-files button": "Choose the images, or drop them here",
  "#batch-run": "Ask the present question about every image, with what Explore shows now",
  "#pays-run": "Time what Explore shows now against all tokens and a smaller picture, on this machine",
  "[id^=replace-]": "Put what Explore shows now in the place of this setting",
  "[id^=remove-]": "Take this setting out of the comparison",
  "footer .show-api": "How programs ask the same of this app",
};
const TABS = {
  "Explore": "One setting on one image",
  "Compare": "Up to four settings side by side",
  "Many images": "One setting on several images",
  "Does it pay?": "What pruning saves on this machine, at one and at many requests",
  "Trade-off plane": "Importance kept against diversity, for every method at this many tokens",
  "Fidelity curves": "How well the answer survives, against tokens kept",
};

function tell(element, words) {
  if (element.title !== words) element.title = words;
  for (const field of element.querySelectorAll("input, textarea")) {
    if (field.getAttribute("aria-description") !== words) field.setAttribute("aria-description", words);
  }
}

function look() {
  for (const [selector, words] of Object.entries(TIPS)) {
    for (const element of document.querySelectorAll(selector)) tell(element, words);
  }
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const words = TABS[tab.textContent.trim()];
    if (words) tell(tab, words);
  }
}

let soon = 0;
new MutationObserver(() => { soon ||= setTimeout(() => { soon = 0; look(); }, 300); })
  .observe(document, { childList: true, subtree: true });
