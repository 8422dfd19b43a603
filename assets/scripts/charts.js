// A chart's points are buttons laid over the drawing. Here: a click anywhere takes the nearest point, arrow keys walk along.
// `element` and `trigger` are given by the component; the server validates the setting like any other input.
const REACH = 36; // pixels: farther from every point, a click means nothing

function marks() {
  return [...element.querySelectorAll("button.mark")];
}

function load(mark) {
  if (mark) trigger("select", JSON.parse(mark.dataset.setting));
}

function nearest(event) {
  const distance = (mark) => {
    const box = mark.getBoundingClientRect();
    return Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
  };
  const near = marks().map((mark) => [distance(mark), mark]).sort((a, b) => a[0] - b[0])[0];
  return near && near[0] <= REACH ? near[1] : null;
}

element.addEventListener("click", (event) => {
  const byKeyboard = event.detail === 0; // Enter or Space on a focused button has no place of its own
  load(byKeyboard ? event.target.closest("button.mark") : nearest(event));
});

element.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const all = marks();
  const at = all.indexOf(document.activeElement);
  if (!step || at < 0) return;
  event.preventDefault();
  const next = all[(at + step + all.length) % all.length];
  all[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
