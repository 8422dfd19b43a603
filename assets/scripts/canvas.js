// The live canvas: redraws every move of the sliders in the page, asks the server for nothing but the answer.
// Events to the server: "select" {token}: a card; "edit" {in, out}: tokens forced in and out. Here the parts meet: what the
// server told, the page's sliders, the view, the tools and the replay.

import { Film } from "./canvas-film.js";
import { keepCount, neighbour, seenBy, selectionAt, styleOf, unpack, unpackExact, withOverrides } from "./canvas-model.js";
import { variants } from "./canvas-paint.js";
import { Replay } from "./canvas-replay.js";
import { Tools } from "./canvas-tools.js";
import { View } from "./canvas-view.js";
import { layerSteps, pickSteps } from "./canvas-words.js";
import { onControls, present } from "./controls.js";
import { onceAFrame } from "./frames.js";

const TURNS = { ",": -1, ".": 1 }; // keys of the time cursor

export function start({ element, props, trigger, watch }) {
  let exact = unpackExact(props.exact); // the selection that the server computed last
  let fresh = 0; // counts what the server computed

  const redraw = onceAFrame(() => {
    const { data, canvas, pictures } = view;
    if (!data || !canvas || pictures.length !== data.images.length) return;
    const chosen = selection();
    replay.describe(steps(chosen));
    if (data.staged && exact?.problem) {
      view.blank(exact.problem);
      film.paint(pictures, null, null, null, [], exact.problem);
      return;
    }
    const setting = present(), seen = shown(chosen), merged = view.merged(chosen);
    view.paint(setting, chosen, seen, tools.forced);
    const told = JSON.stringify([setting, tools.forced.text, replay.step, merged]) + fresh;
    film.paint(pictures, styleOf(data, setting.style), seen, tools.forced, merged, told);
    tools.describe();
  });
  const view = new View(element, props.colours, redraw);
  const film = new Film((name) => view.part(name), props.colours, (seen) => view.look(seen), redraw);
  const replay = new Replay((name) => view.part(name), () => steps(selection()), redraw);
  const tools = new Tools(view, () => keepCount(view.data.n, present().retention), {
    choose: (token) => trigger("select", { key: view.data.key, token }),
    edit: (forced) => trigger("edit", { key: view.data.key, in: [...forced.in], out: [...forced.out] }),
  });

  function selection() {
    const now = present();
    return withOverrides(view.data, selectionAt(view.data, now, exact), now, tools.forced.in, tools.forced.out);
  }

  const steps = (chosen) => (view.data.staged ? layerSteps(chosen) : pickSteps(chosen));

  // What is painted: all of a selection, or as much of it as the replay has come to.
  function shown(chosen) {
    if (replay.step === null) return chosen;
    if (!chosen.lives) return { ...chosen, order: chosen.order.slice(0, replay.step) };
    return { ...chosen, order: seenBy(chosen, replay.step), lives: null };
  }

  // News from the server

  async function load() {
    const payload = props.value;
    if (!payload || !payload.images) return;
    const same = view.data && view.data.key === payload.key;
    const pictures = await Promise.all(payload.images.map((image) => new Promise((done, fail) => {
      const picture = new Image();
      picture.onload = () => done(variants(picture, props.colours));
      picture.onerror = () => fail(new Error("the picture could not be shown"));
      picture.src = image.src;
    })));
    if (props.value !== payload) return; // a newer one has come meanwhile
    if (!same) {
      for (const part of [view, replay]) part.forget();
      tools.startWith(exact?.key === payload.key ? exact.forced : null);
    }
    const data = unpack(payload);
    film.load(data);
    view.show(data, pictures, film.shown);
    tools.allow(!payload.staged && !payload.anew);
  }

  // The visitor

  function press(event) {
    if (!view.data) return;
    if (TURNS[event.key] && !event.ctrlKey && !event.metaKey) { film.stop(); film.step(TURNS[event.key]); return; }
    const to = neighbour(view.data, Math.max(view.cursor, 0), event.key);
    if (to !== null) {
      view.cursor = view.cursor < 0 ? 0 : to;
      film.follow(view.cursor);
      view.tell(selection(), view.cursor);
      redraw();
    } else if (view.cursor < 0 || !act(event.key)) return;
    event.preventDefault();
  }

  // A key on the patch under the cursor: what becomes of it is told, as a pointer would see it. Whether it means anything.
  function act(key) {
    const before = tools.forced.text;
    const meant = tools.key(key, view.cursor);
    if (tools.forced.text !== before) view.tell(selection(), view.cursor);
    return meant;
  }

  function hover(token) {
    if (token === view.hover) return;
    view.hover = token;
    view.tell(selection(), token);
    redraw();
  }

  function bind() {
    const { canvas } = view;
    if (canvas.dataset.bound) return; // the component may or may not have built a new one
    canvas.dataset.bound = "yes";
    tools.listen(canvas);
    canvas.addEventListener("pointermove", (event) => { if (view.data && !tools.drag) hover(view.under(event)); });
    canvas.addEventListener("pointerleave", () => { view.hover = -1; view.say(""); redraw(); });
    canvas.addEventListener("wheel", (event) => { if (view.data) view.wheel(event); }, { passive: false });
    canvas.addEventListener("keydown", press);
  }

  const ACTS = { play: () => replay.play(), clear: () => tools.clear(), roll: () => film.play() };
  const ZOOMS = { in: () => view.zoomBy(1.5), out: () => view.zoomBy(1 / 1.5), whole: () => view.whole() };

  element.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || !view.data) return;
    tools.finish(true);
    const { tool, zoom, part } = button.dataset;
    if (tool) tools.set(tool);
    ZOOMS[zoom]?.();
    ACTS[part]?.();
  });
  element.addEventListener("input", (event) => {
    if (event.target.dataset.part === "step") replay.to(Number(event.target.value));
    if (event.target.dataset.part === "time") { film.stop(); film.to(film.frames[Number(event.target.value)]); }
  });
  onControls(() => { replay.forget(); redraw(); }, redraw);
  new ResizeObserver(() => view.fitIn()).observe(element);
  watch("value", () => { bind(); load(); });
  watch("exact", () => {
    exact = unpackExact(props.exact);
    if (view.data && exact?.key === view.data.key) tools.hear(exact.forced);
    fresh += 1;
    if (view.hover >= 0) view.tell(selection(), view.hover);
    redraw();
  });
  bind();
  load();
}
