// The chart of a plan: layers across, tokens alive up; before the language model as step 0. A step is dragged, or moved by
// arrow keys: up and down for tokens, left and right for layers. Event to the server: "edit" {text}, the plan as it is then.
// A plan is { n, layers, entry, entered, cuts: [{ after, method, title, count, earliest, least, most }], evict }; a step's place is that in
// `cuts`, and -1 for what enters.

const HEIGHT = 132, PAD = { left: 40, right: 14, top: 12, bottom: 26 };
const REST = 400; // milliseconds after the last key
const KEYS = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowRight: [1, 0], ArrowLeft: [-1, 0], PageUp: [0, 10], PageDown: [0, -10] };

const clamp = (value, low, high) => Math.min(Math.max(Math.round(value), low), high);

// Tokens alive in step 0 and in every layer: L + 1 numbers.
export function alive({ layers, entered, cuts }) {
  return Array.from({ length: layers + 1 }, (_, layer) => cuts.reduce((now, cut) => (cut.after < layer ? cut.count : now), entered));
}

// How far a step may go: { count: [least, most], after: [least, most] }; only what a method chooses may enter or not.
export function bounds(plan, at) {
  const { n, layers, cuts } = plan, next = cuts[at + 1], below = Math.max(next?.count ?? 0, at < 0 ? 1 : cuts[at].least);
  if (at < 0) return { count: plan.entry ? [below, n] : [plan.entered, plan.entered], after: [0, 0] };
  const least = Math.max(cuts[at].earliest, at > 0 ? cuts[at - 1].after + 1 : 0);
  return {
    count: [below, cuts[at].most ?? (at > 0 ? cuts[at - 1].count : plan.entered)],
    after: [least, next ? next.after - 1 : layers - 1],
  };
}

// The plan with a step at another place, as near to it as the steps beside it let.
export function moved(plan, at, { count, after }) {
  const range = bounds(plan, at);
  if (at < 0) return { ...plan, entered: clamp(count, ...range.count) };
  const step = { ...plan.cuts[at], count: clamp(count, ...range.count), after: clamp(after, ...range.after) };
  return { ...plan, cuts: plan.cuts.map((cut, place) => (place === at ? step : cut)) };
}

// As pruning.plan reads it; counts are whole numbers.
export function written({ entry, entered, cuts, evict }) {
  const parts = cuts.map((cut) => `${cut.after}:${cut.method}:${cut.count}`);
  return [...(entry ? [`pre:${entry}:${entered}`] : []), ...parts, ...(evict ? ["evict"] : [])].join(",");
}

// Where things lie on a drawing of this width: x of a layer's middle, y of a count, and what stands at a point.
export function scale({ n, layers }, width) {
  const wide = (width - PAD.left - PAD.right) / (layers + 1), high = HEIGHT - PAD.top - PAD.bottom;
  return {
    wide,
    x: (layer) => PAD.left + (layer + 0.5) * wide,
    y: (count) => PAD.top + high * (1 - count / n),
    at: (x, y) => ({ after: Math.floor((x - PAD.left) / wide) - 1, count: n * (1 - (y - PAD.top) / high) }),
  };
}

export function words(plan, at) {
  const count = (at < 0 ? plan.entered : plan.cuts[at].count).toLocaleString("en"), n = plan.n.toLocaleString("en");
  return at < 0 ? `${count} of ${n} tokens enter the LLM` : `${plan.cuts[at].title} after layer ${plan.cuts[at].after}: ${count} of ${n} tokens stay`;
}

// Which layers are named below the drawing: all of few, else about eight.
export function named(layers) {
  const stride = Math.max(1, Math.ceil(layers / 8));
  return Array.from({ length: layers }, (_, place) => place + 1).filter((layer) => layer % stride === 0 || layer === 1);
}

export function start({ element, props, trigger, watch }) {
  let plan = null, drag = null, timer = 0;
  const svg = () => element.querySelector("svg");

  function node(name, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  }

  function handle(at, place) {
    const { count } = bounds(plan, at), now = at < 0 ? plan.entered : plan.cuts[at].count;
    const group = node("g", {
      role: "slider", tabindex: 0, "data-step": at, "aria-label": at < 0 ? "Before the LLM" : `Cut ${at + 1}`, "aria-orientation": "vertical",
      "aria-valuemin": count[0], "aria-valuemax": count[1], "aria-valuenow": now, "aria-valuetext": words(plan, at),
    });
    const [cx, cy] = [place.x(at < 0 ? 0 : plan.cuts[at].after + 1), place.y(now)];
    group.append(node("circle", { class: "reach", cx, cy, r: 16 }), node("circle", { class: "knob", cx, cy, r: 6 }), node("title", {}, words(plan, at)));
    return group;
  }

  function draw() {
    const drawing = svg();
    if (!drawing) return;
    drawing.toggleAttribute("hidden", !plan);
    const width = element.clientWidth;
    if (!plan || !width) return;
    const focused = drawing.querySelector(":focus")?.dataset.step;
    const place = scale(plan, width), counts = alive(plan), floor = place.y(0), left = (layer) => place.x(layer) - place.wide / 2;
    const line = counts.map((count, layer) => `${layer ? "L" : "M"}${left(layer)},${place.y(count)}H${left(layer + 1)}`).join("");
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const texts = named(plan.layers).map((layer) => node("text", { x: place.x(layer), y: floor + 15, "text-anchor": "middle" }, layer));
    const steps = plan.cuts.map((_, at) => handle(at, place));
    drawing.replaceChildren(
      node("path", { class: "area", d: `${line}V${floor}H${left(0)}Z` }), node("path", { class: "line", d: line }),
      node("path", { class: "axis", d: `M${left(0)},${floor}H${left(plan.layers + 1)}M${left(1)},${PAD.top}V${floor}` }),
      node("text", { x: PAD.left - 5, y: place.y(plan.n) + 4, "text-anchor": "end" }, plan.n),
      node("text", { x: PAD.left - 5, y: floor + 4, "text-anchor": "end" }, 0),
      node("text", { x: place.x(0), y: floor + 15, "text-anchor": "middle" }, "before"), ...texts,
      ...(plan.entry ? [handle(-1, place)] : []), ...steps,
    );
    if (focused !== undefined) drawing.querySelector(`[data-step="${focused}"]`)?.focus();
  }

  function tell() {
    clearTimeout(timer);
    trigger("edit", { text: written(plan) });
  }

  function load() {
    if (drag) return;
    plan = props.value?.cuts ? props.value : null;
    draw();
  }

  function point(event) {
    const box = svg().getBoundingClientRect();
    return scale(plan, element.clientWidth).at(event.clientX - box.left, event.clientY - box.top);
  }

  element.addEventListener("pointerdown", (event) => {
    const step = event.target.closest("[data-step]");
    if (!step || !event.isPrimary || event.button) return;
    event.preventDefault();
    step.focus();
    drag = { at: Number(step.dataset.step), before: plan };
    svg().setPointerCapture(event.pointerId);
  });
  // A finger on a step drags it; elsewhere on the drawing it scrolls the page. Inside a drawing, touch-action says nothing.
  element.addEventListener("touchstart", (event) => {
    if (event.target.closest("[data-step]")) event.preventDefault();
  }, { passive: false });
  element.addEventListener("pointermove", (event) => {
    if (!drag || !event.isPrimary) return;
    plan = moved(plan, drag.at, point(event));
    draw();
  });
  element.addEventListener("pointerup", () => {
    if (!drag) return;
    const changed = written(plan) !== written(drag.before);
    drag = null;
    if (changed) tell();
  });
  element.addEventListener("pointercancel", () => {
    if (!drag) return;
    plan = drag.before;
    drag = null;
    draw();
  });
  element.addEventListener("keydown", (event) => {
    const step = event.target.closest("[data-step]"), by = KEYS[event.key];
    if (!step || !by) return;
    event.preventDefault();
    const at = Number(step.dataset.step), now = at < 0 ? { after: 0, count: plan.entered } : plan.cuts[at];
    plan = moved(plan, at, { after: now.after + by[0], count: now.count + by[1] });
    draw();
    clearTimeout(timer);
    timer = setTimeout(tell, REST);
  });
  new ResizeObserver(draw).observe(element);
  watch("value", load);
  load();
}
