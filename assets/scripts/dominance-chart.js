// Whether text or picture dominates, layer by layer, below the plan's chart and on its layers: MDI above, AEI below, both
// logarithmic around 1 = balanced. A pointer or arrow keys choose the layer whose values the table holds.
// The value is { key, layers, full, kept }, of each side [{ layer, mdi, text, picture }] with layers from 0, null where there
// is nothing to divide by; or { key, words, problem }, why there is none.

import { named, scale } from "./plan-chart.js";

const PANEL = 78, GAP = 16, FOOT = 18, TOP = 12;
const PANELS = [{ title: "MDI", rows: ["mdi"] }, { title: "AEI", rows: ["text", "picture"] }];
const ROWS = ["mdi", "text", "picture"], SIDES = ["full", "kept"];
const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity };

// What a panel spans, 1 among it: [least, most], above 0. values: of its lines; 0 and null have no place on it.
export function span(values) {
  const seen = values.filter((value) => value > 0);
  return [Math.min(0.8, ...seen.map((value) => value / 1.2)), Math.max(1.25, ...seen.map((value) => value * 1.2))];
}

// Which of 1, 2, 5 · 10^k are named between two values: at most about four, 1 always.
export function ticks(least, most) {
  const all = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most); power++) all.push(...[1, 2, 5].map((digit) => Number((digit * 10 ** power).toPrecision(1))));
  const inside = all.filter((value) => value >= least && value <= most);
  const wide = Math.log10(most / least);
  return inside.filter((value) => value === 1 || (wide < 1.5 ? true : /^[0.]*10*$/.test(String(value)) && (wide < 4 || Math.log10(value) % 2 === 0)));
}

// "12.3", "0.57", "–" where there is none.
export const number = (value) => (value === null || value === undefined ? "–" : value >= 100 ? value.toFixed(0) : value.toPrecision(3));

// The values of a layer, from 1: [[all tokens, this plan], …], one pair for each of mdi, text, picture.
export function valuesOf(value, layer) {
  const at = SIDES.map((side) => value[side].find((each) => each.layer === layer - 1));
  return ROWS.map((row) => at.map((each) => each?.[row] ?? null));
}

export function words(value, layer) {
  const names = ["MDI", "AEI of the text", "AEI of the picture"];
  const told = valuesOf(value, layer).map(([full, kept], row) => `${names[row]} ${number(full)}, with this plan ${number(kept)}`);
  return `Layer ${layer}: ${told.join("; ")}`;
}

export function start({ element, props, watch }) {
  let value = null, layer = 1;
  const piece = (name) => element.querySelector(`[data-part="${name}"]`);
  const svg = () => element.querySelector('[role="slider"]');

  function node(name, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
    made.textContent = text;
    return made;
  }

  function line(side, row, place, y) {
    let path = "", pen = "M";
    const dots = [];
    for (const each of value[side]) {
      if (each[row] === null) { pen = "M"; continue; }
      const [cx, cy] = [place.x(each.layer + 1), y(each[row])];
      path += `${pen}${cx},${cy}`;
      pen = "L";
      dots.push(node("circle", { cx, cy, r: 2.5, class: side }));
    }
    const group = node("g", { class: row });
    group.append(node("path", { d: path, class: side }), ...(value.layers > 40 ? [] : dots));
    return group;
  }

  function panel({ title, rows }, top, place, width) {
    const [least, most] = span(SIDES.flatMap((side) => value[side].flatMap((each) => rows.map((row) => each[row]))));
    const y = (count) => top + PANEL * (1 - Math.log(Math.max(count, least) / least) / Math.log(most / least));
    const left = place.x(0) - place.wide / 2, right = place.x(value.layers) + place.wide / 2;
    const marks = ticks(least, most).flatMap((tick) => [
      node("path", { class: tick === 1 ? "balanced" : "grid", d: `M${left},${y(tick)}H${right}` }),
      node("text", { x: left - 5, y: y(tick) + 4, "text-anchor": "end" }, String(tick)),
    ]);
    const lines = rows.flatMap((row) => SIDES.map((side) => line(side, row, place, y)));
    return [...marks, node("text", { class: "title", x: left + 4, y: top + 9 }, title), node("text", { x: Math.min(right, width) - 2, y: y(1) - 3, "text-anchor": "end" }, "balanced"), ...lines];
  }

  function draw() {
    const width = element.clientWidth;
    if (!value?.layers || !width) return;
    const place = scale({ n: 1, layers: value.layers }, width), bottom = TOP + 2 * PANEL + GAP, at = place.x(layer);
    const names = named(value.layers).map((each) => node("text", { x: place.x(each), y: bottom + 15, "text-anchor": "middle" }, each));
    svg().setAttribute("viewBox", `0 0 ${width} ${bottom + FOOT}`);
    svg().replaceChildren(
      node("path", { class: "cursor-line", d: `M${at},${TOP}V${bottom}` }),
      ...PANELS.flatMap((each, i) => panel(each, TOP + i * (PANEL + GAP), place, width)), ...names,
    );
    svg().setAttribute("aria-valuemax", value.layers);
    svg().setAttribute("aria-valuenow", layer);
    svg().setAttribute("aria-valuetext", words(value, layer));
    piece("layer").textContent = `Layer ${layer}`;
    valuesOf(value, layer).forEach((pair, row) => {
      const cells = element.querySelectorAll(`tr.${ROWS[row]} td`);
      pair.forEach((each, side) => { cells[side].textContent = number(each); });
    });
  }

  function load() {
    const given = props.value;
    if (given?.words && value?.layers && value.key === given.key) return; // it stands already
    value = given?.key ? given : null;
    element.querySelector(".dominance").hidden = !value;
    piece("drawn").hidden = !value?.layers;
    piece("words").textContent = value?.words ?? "";
    piece("words").classList.toggle("warn", Boolean(value?.problem));
    if (value?.layers) layer = Math.min(layer, value.layers);
    draw();
  }

  function move(to) {
    const next = Math.min(Math.max(to, 1), value.layers);
    if (next === layer) return;
    layer = next;
    draw();
  }

  function point(event) {
    if (!value?.layers || !event.target.closest('[role="slider"]')) return;
    move(scale({ n: 1, layers: value.layers }, element.clientWidth).at(event.clientX - svg().getBoundingClientRect().left, 0).after + 1);
  }

  element.addEventListener("pointermove", point);
  element.addEventListener("pointerdown", point);
  element.addEventListener("keydown", (event) => {
    const by = STEPS[event.key];
    if (!by || !value?.layers || !event.target.closest('[role="slider"]')) return;
    event.preventDefault();
    move(layer + by);
  });
  new ResizeObserver(draw).observe(element);
  watch("value", load);
  load();
}
