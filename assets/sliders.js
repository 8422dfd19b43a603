// A slider tells the app that it rests when the mouse lets go of it. Keyboard and number field say nothing of the kind, so
// here they do: once no key was pressed for a moment, the slider gets the event that a released mouse would have sent.
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
    if (event.target.matches?.("#lab input[type=number]")) rest(event.target, 50);
  });
})();
