// A chart's points are buttons laid over the drawing. Here: a click anywhere takes the nearest point, arrow keys walk along.
// Event to the server: "select", a setting, which is validated like any other input.

const REACH = 36; // pixels: farther from every point, a click means nothing
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

// The place in `boxes`, {x, y, width, height} each, of the one whose middle is nearest to a point; -1 where none is in reach.
export function nearest(boxes, x, y) {
  const away = boxes.map((box) => Math.hypot(box.x + box.width / 2 - x, box.y + box.height / 2 - y));
  const least = Math.min(...away);
  return least <= REACH ? away.indexOf(least) : -1;
}

// The place that an arrow key leads to from place `at` of `count`, round and round; -1 where it leads nowhere.
export function beside(at, count, key) {
  const step = STEPS[key];
  return !step || at < 0 ? -1 : (at + step + count) % count;
}

export function start({ element, trigger }) {
  const marks = () => [...element.querySelectorAll("button.mark")];

  function load(mark) {
    if (mark) trigger("select", JSON.parse(mark.dataset.setting));
  }

  element.addEventListener("click", (event) => {
    const byKeyboard = event.detail === 0; // Enter or Space on a focused button has no place of its own
    if (byKeyboard) { load(event.target.closest("button.mark")); return; }
    const all = marks();
    load(all[nearest(all.map((mark) => mark.getBoundingClientRect()), event.clientX, event.clientY)]);
  });

  element.addEventListener("keydown", (event) => {
    const all = marks();
    const at = all.indexOf(document.activeElement);
    const next = all[beside(at, all.length, event.key)];
    if (!next) return;
    event.preventDefault();
    all[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
