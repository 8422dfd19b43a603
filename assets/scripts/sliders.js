// A slider tells the app that it rests when the mouse lets go of it. Keyboard and number field say nothing of the kind, so
// here they do: once no key was pressed for a moment, the slider gets the event that a released mouse would have sent. What
// was typed out of range becomes the nearest value in it, as the slider shows it, before anything is told. Nor does a slider
// hear of a drag that ends elsewhere: the page begins to scroll under the finger, the window loses the focus, the button
// comes up beside it.

const REST = 350; // milliseconds
const timers = new WeakMap();
let dragged = null; // the slider that a pointer is on

function rest(input, wait) {
  clearTimeout(timers.get(input));
  const tell = () => input.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
  timers.set(input, setTimeout(tell, wait));
}

function ended(event) {
  if (dragged && event.target !== dragged) rest(dragged, 0);
  dragged = null;
}

document.addEventListener("pointerdown", (event) => {
  dragged = event.target.matches?.("#lab input[type=range]") ? event.target : null;
}, true);
document.addEventListener("pointerup", ended, true);
document.addEventListener("pointercancel", (event) => {
  if (dragged) rest(dragged, 50); // the last input of a drag that is cancelled comes after this
  if (event.target === dragged) dragged = null;
}, true);
window.addEventListener("blur", ended);

document.addEventListener("keyup", (event) => {
  if (event.target.matches?.("#lab input[type=range]") && event.key !== "Tab") rest(event.target, REST);
});

document.addEventListener("change", (event) => {
  const input = event.target;
  if (!input.matches?.("#lab input[type=number]")) return;
  const inside = Math.min(Number(input.max), Math.max(Number(input.min), Number(input.value)));
  if (input.min && input.max && inside !== Number(input.value)) {
    input.value = inside;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }
  rest(input, 50);
}, true);
