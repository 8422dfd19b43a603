// Tooltips for controls that have no place for one of their own; the rooms of the page say them (their TIPS). Whoever
// points at a control sees its title; whoever hears the page gets the same words as the description of the field inside.
// Fields come and go: a look after every change.

const TIPS = JSON.parse(document.getElementById("tips").textContent); // CSS selector, or "tab " and its name: words

function tell(element, words) {
  if (element.title !== words) element.title = words;
  for (const field of element.querySelectorAll("input, textarea")) {
    if (field.getAttribute("aria-description") !== words) field.setAttribute("aria-description", words);
  }
}

function meant(what) {
  if (!what.startsWith("tab ")) return document.querySelectorAll(what);
  return [...document.querySelectorAll("[role=tab]")].filter((tab) => `tab ${tab.textContent.trim()}` === what);
}

function look() {
  for (const [what, words] of Object.entries(TIPS)) {
    for (const element of meant(what)) tell(element, words);
  }
}

let soon = 0;
new MutationObserver(() => { soon ||= setTimeout(() => { soon = 0; look(); }, 300); })
  .observe(document, { childList: true, subtree: true });
