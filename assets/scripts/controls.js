// The page's sliders and choices, read where they stand, and news of them whoever moved them.

import { lambdaOf } from "./canvas-model.js";

const CONTROLS = "#retention, #importance-weight, #diversity-weight, #style, #scope";
const chosen = (id, other) => document.querySelector(`#${id} input:checked`)?.value ?? other;

function number(id, other) {
  const input = document.querySelector(`#${id} input[type=number], #${id} input[type=range]`);
  return input ? Number(input.value) : other;
}

export const style = () => chosen("style", "dimmed");

// { retention, lambda (null where both weights are 0), style, scope }
export function present() {
  const lambda = lambdaOf(number("importance-weight", 1), number("diversity-weight", 1));
  return { retention: number("retention", 1), lambda, style: style(), scope: chosen("scope", "sample") };
}

// byHand: the visitor moved one. changed: their values are others, also by a link or a click on a chart: of those the
// page hears no event, but a slider's bar and a choice's state change with the value.
export function onControls(byHand, changed) {
  let seen = "";
  document.addEventListener("input", (event) => { if (event.target.closest?.(CONTROLS)) byHand(); });
  new MutationObserver(() => {
    const now = JSON.stringify(present());
    if (now !== seen) { seen = now; changed(); }
  }).observe(document.body, { childList: true, subtree: true, attributeFilter: ["style", "aria-checked"] });
}
