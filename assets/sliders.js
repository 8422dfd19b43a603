// A slider tells the app that it rests when the mouse lets go of it. Keyboard and number field say nothing of the kind, so
// here they do: once no key was pressed for a moment, the slider gets the event that a released mouse would have sent. What
// was typed out of range becomes the nearest value in it, as the slider shows it, before anything is told.
(() => {
  const REST = 350; // milliseconds
  const timers = new WeakMap();

  function rest(input, wait) {
    clearTimeout(timers.get(input));
    const tell = () => input.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
    timers.set(input, setTimeout(tell, wait));
  }

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
})();
