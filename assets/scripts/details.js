// What a visitor has unfolded stays so while its piece of the page is written anew, as a report is with every word of an
// answer: Gradio puts in what is new, and takes away the attributes that what was written does not have.

const open = new Set(); // the piece's id and the words on the fold

const nameOf = (details) => `${details.closest(".block")?.id} ${details.querySelector("summary")?.textContent}`;

document.addEventListener("click", ({ target }) => { // by keys too
  const details = target.closest?.("summary")?.parentElement;
  if (details) open[details.open ? "delete" : "add"](nameOf(details));
});

new MutationObserver(() => {
  if (!open.size) return;
  for (const details of document.querySelectorAll("details:not([open])")) if (open.has(nameOf(details))) details.open = true;
}).observe(document, { childList: true, subtree: true, attributeFilter: ["open"] });
