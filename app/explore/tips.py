"""What is said of the components of Explore, where a pointer rests on one or a screen reader comes to it."""

from __future__ import annotations

from app.web.events import STOPS

TIPS = {
    "tab Explore": "One setting on one image",
    "#model": "The model that answers. What the device cannot hold is grey, with the reason",
    "#image :is(button[aria-label*='upload' i], .upload-container button)": "Choose a file, or drop one here: an "
    "image, or a clip (MP4, MOV, WebM, GIF)",
    "#image button[aria-label='Capture from camera']": "Take a picture with the camera",
    "#image button[aria-label='Paste from clipboard']": "Paste an image that was copied elsewhere",
    "#record [data-part=begin]": "Record a clip with the camera, a minute at most",
    "#record [data-part=done]": "End the recording, and ask about it",
    "#record [data-part=close]": "Forget the recording",
    "#add-image": "Add further images or clips to the same question",
    "#frames-rate": "How many frames of each second of a clip the model is given",
    "#frames-most": "How many frames of a clip the model is given at most, spread over all of it",
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
    "#scope": "Whether the share is kept of all images together, of each image, tile or frame, or frames get the more "
    "the newer they are",
    "#importance-weight": "How much a patch's own importance counts. λ = importance / (importance + diversity)",
    "#diversity-weight": "How much it counts that a patch differs from those already kept",
    "#positions label:has([value=original])": "Kept tokens stay where they stood among all of them",
    "#positions label:has([value=compact])": "Kept tokens are numbered anew without gaps, as serving engines do. With "
    "rows and columns (M-RoPE) both keep their order. Where no token is missing, nothing changes",
    "#stop": STOPS,
    "tab Trade-off plane": "Importance kept against diversity, for every method at this many tokens",
    "tab Fidelity curves": "How well the answer survives, against tokens kept",
    "#curve-methods label": "Measure a curve for this method too",
    "#measure": "Measure the curves of the ticked methods for the present image and question",
    "#tradeoff .label-wrap": "Which methods get a curve",
    "#guide > button": "Close this; the button at the top brings it back",
    "footer .show-api": "How programs ask the same of this app",
}  # fmt: skip
