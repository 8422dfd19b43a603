// Drawing at most once a frame, however often it is asked for.

const LATE = 250; // milliseconds: a window that the browser does not draw gets no frames

export function onceAFrame(draw) {
  let frame = 0, late = 0;
  function now() {
    cancelAnimationFrame(frame);
    clearTimeout(late);
    frame = late = 0;
    draw();
  }
  return () => {
    if (frame) return;
    frame = requestAnimationFrame(now);
    late = setTimeout(now, LATE);
  };
}
