// Dragging over the canvas: a brush that forces patches, or the hand that moves a picture that is zoomed in. A drag is one
// pointer from where it went down until it is let go of; however it ends, the page and the server agree afterwards.
// `state`, `stage`, `use`, `under`, `redraw`, `forcedNow` and `tellForced` are the canvas's own (canvas.js).

// A finger scrolls the page over the canvas, except where it drags. Two fingers always zoom.
function takeFingers() {
  const ours = state.tool !== "inspect" || state.view.zoom > state.fit;
  stage().style.touchAction = ours ? "pinch-zoom" : "manipulation";
}

function begin(event) {
  finish(true);
  const before = { in: new Set(state.forced.in), out: new Set(state.forced.out) };
  state.drag = { id: event.pointerId, x: event.clientX, y: event.clientY, moved: false, releases: false, before };
  stage().setPointerCapture(event.pointerId);
  if (state.tool !== "inspect") use(under(event), true);
}

// Every patch on the way: a quick hand, or a slow phone, moves by several patches between two events.
function brush(event) {
  const { drag } = state;
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  const steps = Math.max(1, Math.ceil(Math.hypot(dx, dy) / 2)); // of 2 pixels: hardly a patch is smaller
  for (let i = 1; i <= steps; i += 1) use(under({ clientX: drag.x + (dx * i) / steps, clientY: drag.y + (dy * i) / steps }), false);
  Object.assign(drag, { x: event.clientX, y: event.clientY });
}

function pan(event) {
  const { drag, view } = state;
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (Math.hypot(dx, dy) > 4) drag.moved = true;
  if (!drag.moved || view.zoom <= state.fit) return;
  const ratio = stage().width / stage().clientWidth;
  view.x += dx * ratio; view.y += dy * ratio;
  Object.assign(drag, { x: event.clientX, y: event.clientY });
  redraw();
}

// stands: false where the browser took the finger away, to scroll or to zoom the page: then there was no stroke.
function finish(stands) {
  const { drag } = state;
  if (!drag) return;
  state.drag = null;
  if (state.tool === "inspect") return;
  if (!stands) { state.forced = drag.before; redraw(); }
  if (stands || forcedNow() !== state.told) tellForced();
}

// The drag that this event belongs to: a second finger is no part of it.
function dragOf(event) {
  return state.drag?.id === event.pointerId ? state.drag : null;
}

function makeDraggable(canvas) {
  canvas.addEventListener("pointerdown", (event) => {
    if (state.data && event.isPrimary && event.button === 0) begin(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!dragOf(event)) return;
    if (!(event.buttons & 1)) { finish(true); return; } // let go of where the page could not hear it
    if (state.tool === "inspect") { pan(event); return; }
    const moves = event.getCoalescedEvents?.() ?? []; // none where the page is not secure
    for (const move of moves.length ? moves : [event]) brush(move);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!dragOf(event)) return;
    if (state.tool === "inspect" && !state.drag.moved) use(under(event), true);
    finish(true);
  });
  canvas.addEventListener("pointercancel", (event) => { if (dragOf(event)) finish(false); });
  canvas.addEventListener("lostpointercapture", (event) => { if (dragOf(event)) finish(true); });
}

window.addEventListener("blur", () => finish(true));
