// The live canvas: redraws every move of the sliders in the page, asks the server for nothing but the answer.
// `element`, `props`, `trigger` and `watch` are given by the component. Events to the server: "select" {token}: a card;
// "edit" {in, out}: tokens forced in and out. The page's sliders are read where they stand.

const stage = () => element.querySelector("canvas");
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const slider = (id) => document.querySelector(`#${id} input[type=number], #${id} input[type=range]`);

const state = {
  data: null, exact: null, pictures: [], view: { zoom: 1, x: 0, y: 0 }, fit: 1,
  cursor: -1, hover: -1, chosen: -1, tool: "inspect", forced: { in: new Set(), out: new Set() },
  step: null, playing: 0, frame: 0, late: 0, drag: null, seen: "", telling: 0, told: "", // told: the forced patches that the server has heard of
};

function present() {
  const number = (id, other) => { const input = slider(id); return input ? Number(input.value) : other; };
  const style = document.querySelector("#style input:checked");
  const scope = document.querySelector("#scope input:checked");
  return {
    retention: number("retention", 1), lambda: lambdaOf(number("importance-weight", 1), number("diversity-weight", 1)),
    style: style ? style.value : "dimmed", scope: scope ? scope.value : "sample",
  };
}

function selection() {
  const now = present();
  const own = selectionAt(state.data, now, state.exact);
  const final = withOverrides(state.data, own, now, state.forced.in, state.forced.out);
  return { ...final, shown: state.step === null ? final.order : final.order.slice(0, state.step) };
}

function redraw() {
  if (state.frame) return;
  state.frame = requestAnimationFrame(paint);
  state.late = setTimeout(paint, 250); // a window that the browser does not draw gets no frames
}

function paint() {
  cancelAnimationFrame(state.frame);
  clearTimeout(state.late);
  state.frame = state.late = 0;
  const canvas = stage();
  if (!state.data || !canvas || state.pictures.length !== state.data.images.length) return;
  const chosen = selection();
  const painter = new Painter(canvas.getContext("2d"), state.pictures, state.data, state.view);
  painter.paint(present().style, { ...chosen, order: chosen.shown }, state.forced);
  for (const [token, colour, width] of [[state.chosen, "white", 2], [state.hover, "white", 1], [state.cursor, FORCED_IN, 3]]) {
    if (token >= 0 && token < state.data.n) painter.frames([token], colour, width);
  }
  describe(chosen);
}

function describe(chosen) {
  const { data } = state;
  const share = Math.round((100 * chosen.k) / data.n);
  const { lambda } = present();
  const balance = !data.weighted ? "no λ" : lambda === null ? "both weights are 0" : `λ = ${lambda.toFixed(2)}`;
  const text = `${chosen.k.toLocaleString("en")} of ${data.n.toLocaleString("en")} tokens kept (${share} %) · ${balance}`;
  part("count").textContent = chosen.exact ? text : `${text} · preview until the slider rests`;
  canvasLabel(`${data.method.title}: ${text}. Arrow keys move over the patches, Enter explains one.`);
  const { style } = present();
  for (const legend of element.querySelectorAll("[data-legend]")) legend.hidden = legend.dataset.legend !== style;
  const replay = part("step");
  replay.max = chosen.k;
  if (state.step === null) replay.value = chosen.k;
  part("at").textContent = state.step === null ? "all picks" : `pick ${state.step} of ${chosen.k}`;
  const forced = state.forced.in.size + state.forced.out.size;
  part("clear").disabled = !forced;
  element.dataset.exact = String(chosen.exact);
  element.dataset.kept = [...chosen.order].join(" ");
}

function canvasLabel(text) {
  if (stage().getAttribute("aria-label") !== text) stage().setAttribute("aria-label", text);
}

// What is known of a token without asking the server.
function tell(token) {
  const tip = part("tip");
  if (token < 0) { tip.textContent = ""; return; }
  const chosen = selection();
  const rank = chosen.order.indexOf(token);
  const { grid, row, column } = placeOf(state.data, token);
  const where = { tile: ", tile", thumbnail: ", thumbnail", whole: "" }[grid.role];
  const scores = state.data.scores;
  const less = scores ? scores.reduce((sum, score) => sum + (score < scores[token]), 0) / state.data.n : null;
  const importance = less === null ? "" : ` · importance above ${Math.round(100 * less)} % of the tokens`;
  const near = chosen.nearest?.[token] ?? NaN;
  const similar = Number.isNaN(near) ? "" : ` · ${near.toFixed(2)} similar to the nearest kept`;
  tip.textContent = `patch (${row + 1}, ${column + 1})${where} · ${rank < 0 ? "dropped" : `kept, pick ${rank + 1}`}${importance}${similar}`;
}

// Size, zoom, pan

function worldSize() {
  const places = arrange(state.data.images);
  const last = places[places.length - 1];
  return { width: last.x + last.width, height: last.height };
}

function resize() {
  const canvas = stage();
  if (!state.data || !canvas || !canvas.clientWidth) return;
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = worldSize();
  canvas.style.aspectRatio = `${width} / ${height}`;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  state.fit = Math.min(canvas.width / width, canvas.height / height);
  whole();
}

function whole() {
  const canvas = stage();
  const { width, height } = worldSize();
  const zoom = state.fit;
  state.view = { zoom, x: (canvas.width - width * zoom) / 2, y: (canvas.height - height * zoom) / 2 };
  takeFingers();
  redraw();
}

function zoomAt(factor, x, y) {
  const most = Math.max(state.fit * 16, 2 * (window.devicePixelRatio || 1)); // a long strip is small at 16 times
  const zoom = Math.min(Math.max(state.view.zoom * factor, state.fit), most);
  const by = zoom / state.view.zoom;
  state.view = { zoom, x: x - (x - state.view.x) * by, y: y - (y - state.view.y) * by };
  if (zoom === state.fit) whole();
  takeFingers();
  redraw();
}

// Pointer place -> token
function under(event) {
  const canvas = stage();
  const bounds = canvas.getBoundingClientRect();
  const px = ((event.clientX - bounds.left) / bounds.width) * canvas.width;
  const py = ((event.clientY - bounds.top) / bounds.height) * canvas.height;
  const x = (px - state.view.x) / state.view.zoom, y = (py - state.view.y) / state.view.zoom;
  const places = arrange(state.data.images);
  const image = places.findIndex((p) => x >= p.x && x < p.x + p.width && y >= 0 && y < p.height);
  return image < 0 ? -1 : tokenAt(state.data, image, (x - places[image].x) / places[image].scale, y / places[image].scale);
}

// Tools

function choose(token) {
  state.chosen = state.cursor = token;
  trigger("select", { key: state.data.key, token });
  redraw();
}

function force(token, way) {
  const { forced } = state;
  const other = way === "in" ? "out" : "in";
  const k = keepCount(state.data.n, present().retention);
  if (way === "in" && !forced.in.has(token) && forced.in.size >= k) {
    part("tip").textContent = `the budget of ${k} tokens is forced already: release one, or keep more tokens`;
    return;
  }
  if (way === "out" && !forced.out.has(token) && state.data.n - forced.out.size <= k) {
    part("tip").textContent = `${k} tokens must stay: none of the others can be forced out`;
    return;
  }
  forced[other].delete(token);
  forced[way].add(token);
  redraw();
}

function release(token) {
  state.forced.in.delete(token);
  state.forced.out.delete(token);
  redraw();
}

function forcedNow() {
  return JSON.stringify([[...state.forced.in], [...state.forced.out]]);
}

// Told once the hand rests: of events in quick succession the server would hear of the first and see the last.
function tellForced() {
  clearTimeout(state.telling);
  state.telling = setTimeout(() => {
    if (state.drag) return; // a stroke is told whole, by its end
    state.told = forcedNow();
    trigger("edit", { key: state.data.key, in: [...state.forced.in], out: [...state.forced.out] });
  }, 250);
}

function setTool(tool) {
  state.tool = tool;
  for (const button of element.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
  takeFingers();
}

function use(token, first) {
  if (token < 0) return;
  if (state.tool === "inspect") { if (first) choose(token); return; }
  if (first) state.drag.releases = state.forced[state.tool].has(token); // a second touch takes the mark off again
  if (state.drag?.releases) release(token); else force(token, state.tool);
}

// Replay

function replayTo(step) {
  const k = selection().k;
  state.step = step >= k ? null : Math.max(step, 0);
  redraw();
}

function play() {
  clearInterval(state.playing);
  if (state.playing) { state.playing = 0; part("play").textContent = "▶"; return; }
  const k = selection().k;
  const stride = Math.max(1, Math.round(k / 120));
  if (state.step === null) state.step = 0;
  part("play").textContent = "⏸";
  state.playing = setInterval(() => {
    const next = (state.step ?? k) + stride;
    part("step").value = Math.min(next, k);
    replayTo(next);
    if (next >= k) { clearInterval(state.playing); state.playing = 0; part("play").textContent = "▶"; }
  }, 50);
}

// News from the server

async function load() {
  const payload = props.value;
  if (!payload || !payload.images) return;
  const same = state.data && state.data.key === payload.key;
  const pictures = await Promise.all(payload.images.map((image) => new Promise((done, fail) => {
    const picture = new Image();
    picture.onload = () => done(variants(picture));
    picture.onerror = () => fail(new Error("the picture could not be shown"));
    picture.src = image.src;
  })));
  if (props.value !== payload) return; // a newer one has come meanwhile
  state.data = unpack(payload);
  state.pictures = pictures;
  if (!same) {
    Object.assign(state, { cursor: -1, hover: -1, chosen: -1, step: null, drag: null, forced: { in: new Set(), out: new Set() } });
    state.told = forcedNow();
  }
  part("tip").textContent = "";
  resize();
}

function bind() {
  const canvas = stage();
  if (canvas.dataset.bound) return; // the component may or may not have built a new one
  canvas.dataset.bound = "yes";
  makeDraggable(canvas);
  canvas.addEventListener("pointermove", (event) => {
    if (!state.data || state.drag) return;
    const token = under(event);
    if (token !== state.hover) { state.hover = token; tell(token); redraw(); }
  });
  canvas.addEventListener("pointerleave", () => { state.hover = -1; tell(-1); redraw(); });
  canvas.addEventListener("wheel", (event) => {
    if (!state.data || !(event.ctrlKey || event.metaKey || state.view.zoom > state.fit)) return; // a plain wheel scrolls the page
    event.preventDefault();
    const bounds = canvas.getBoundingClientRect(), ratio = canvas.width / bounds.width;
    zoomAt(Math.exp(-event.deltaY / 300), (event.clientX - bounds.left) * ratio, (event.clientY - bounds.top) * ratio);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (!state.data) return;
    const to = neighbour(state.data, Math.max(state.cursor, 0), event.key);
    if (to !== null) { state.cursor = state.cursor < 0 ? 0 : to; tell(state.cursor); redraw(); event.preventDefault(); return; }
    if (state.cursor < 0) return;
    const acts = {
      Enter: () => choose(state.cursor), " ": () => choose(state.cursor),
      i: () => { force(state.cursor, "in"); tellForced(); }, o: () => { force(state.cursor, "out"); tellForced(); },
      Delete: () => { release(state.cursor); tellForced(); },
    };
    if (acts[event.key]) { acts[event.key](); event.preventDefault(); }
  });
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !state.data) return;
  const canvas = stage();
  finish(true);
  if (button.dataset.tool) setTool(button.dataset.tool);
  if (button.dataset.zoom === "in") zoomAt(1.5, canvas.width / 2, canvas.height / 2);
  if (button.dataset.zoom === "out") zoomAt(1 / 1.5, canvas.width / 2, canvas.height / 2);
  if (button.dataset.zoom === "whole") whole();
  if (button.dataset.part === "play") play();
  if (button.dataset.part === "clear") { state.forced = { in: new Set(), out: new Set() }; tellForced(); redraw(); }
});
element.addEventListener("input", (event) => {
  if (event.target.dataset.part === "step") replayTo(Number(event.target.value));
});
document.addEventListener("input", (event) => {
  if (event.target.closest?.("#retention, #importance-weight, #diversity-weight, #style, #scope")) { state.step = null; redraw(); }
});
new ResizeObserver(() => { // also of the texts below: what was zoomed into stays where it is then
  const canvas = stage(), ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas?.clientWidth, canvas?.clientHeight].map((side) => Math.round(side * ratio));
  if (canvas && (canvas.width !== width || canvas.height !== height)) resize();
}).observe(element);
// Sliders may also be moved by a link or by a click on a chart, of which the page hears nothing: a look now and then.
setInterval(() => {
  const seen = JSON.stringify(present());
  if (seen !== state.seen) { state.seen = seen; redraw(); }
}, 200);
watch("value", () => { bind(); load(); });
watch("exact", () => {
  state.exact = unpackExact(props.exact);
  if (state.hover >= 0) tell(state.hover);
  redraw();
});
bind();
load();
