// A picked example tells the app its place in the row.

export function start({ element, trigger }) {
  element.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) trigger("select", { index: Number(button.dataset.index) });
  });
}
