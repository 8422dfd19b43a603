// A part of the report that they unfolded stays so while the report is written anew.

const FOLD = "#report details.by-layer";
let open = false, met = null;

document.addEventListener("toggle", (event) => {
  if (event.target.matches?.(FOLD)) open = event.target.open;
}, true);
new MutationObserver(() => {
  const fold = document.querySelector(FOLD);
  if (!fold || fold === met) return;
  met = fold; // once: after that it is theirs to close
  fold.open = open;
}).observe(document.body ?? document.documentElement, { childList: true, subtree: true });
