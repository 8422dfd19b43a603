// The knobs of the chosen method, a slider or a menu for each. The value is { shown, held }: the keys of those that are to be
// seen, and by key what visitors set; what nobody set is where it starts. `specs`, JSON by key: { label, help, start }, with
// { least, most, step } of a number, or { choices: [[words, value]] }. Event: "input", once a slider rests, as sliders.js
// says, or after a choice.

const named = (tag, attributes, ...inside) => {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
};

// The number that a text says, within the knob's limits; null where it says none.
export function nearest({ least, most }, text) {
  const number = Number(text);
  return String(text).trim() === "" || Number.isNaN(number) ? null : Math.min(most, Math.max(least, number));
}

// How much of a slider's bar is full, in percent.
export const full = ({ least, most }, value) => (100 * (value - least)) / (most - least);

export function start({ element, props, trigger, watch }) {
  let specs = {}, drawn = null, told = "";
  const value = (key) => props.value.held[key] ?? specs[key].start;

  function set(key, to) {
    props.value = { ...props.value, held: { ...props.value.held, [key]: to } };
    show(key);
  }

  // Beside the knob's name stands the number, below it the slider: both are fields of one value.
  function slider(key, { label, help, least, most, step }) {
    const range = { min: least, max: most, step, "data-key": key, "aria-description": help };
    return [
      named("div", { class: "head" },
        named("label", { for: `knob-${key}-range` }, named("span", {}, label)),
        named("input", { ...range, type: "number", "aria-label": `number input for ${label}` })),
      named("div", { class: "slider_input_container" },
        named("span", { class: "min_value" }, least),
        named("input", { ...range, type: "range", id: `knob-${key}-range`, "aria-label": `range slider for ${label}` }),
        named("span", { class: "max_value" }, most)),
    ];
  }

  function menu(key, { label, help, choices }) {
    const options = choices.map(([words, choice]) => named("option", { value: choice }, words));
    return [
      named("div", { class: "head" }, named("label", { for: `knob-${key}-menu` }, named("span", {}, label))),
      named("select", { id: `knob-${key}-menu`, "data-key": key, "aria-description": help }, ...options),
    ];
  }

  function show(key) {
    const now = value(key);
    for (const field of element.querySelectorAll(`[data-key="${key}"]`)) {
      if (field !== document.activeElement || field.type !== "number") field.value = now; // what is being typed stays
      if (field.type === "range") field.style.setProperty("--range_progress", `${full(specs[key], now)}%`);
    }
  }

  function load() {
    const wanted = JSON.stringify([props.value.shown, props.specs]);
    if (wanted !== drawn) {
      specs = JSON.parse(props.specs);
      element.replaceChildren(...props.value.shown.map((key) => {
        const fields = specs[key].choices ? menu(key, specs[key]) : slider(key, specs[key]);
        return named("div", { class: "knob", id: `knob-${key}`, title: specs[key].help }, ...fields);
      }));
      drawn = wanted;
    }
    props.value.shown.forEach(show);
    told = JSON.stringify(props.value.held);
  }

  function changed() {
    const before = told;
    told = JSON.stringify(props.value.held);
    return told !== before;
  }

  element.addEventListener("input", ({ target }) => {
    const { key } = target.dataset;
    if (!key) return;
    const to = specs[key].choices ? target.value : nearest(specs[key], target.value);
    if (to !== null) set(key, to);
    if (specs[key].choices && changed()) trigger("input");
  });
  element.addEventListener("pointerup", ({ target }) => { if (target.dataset.key && changed()) trigger("input"); });
  // A number that is left without one in it says again what holds.
  element.addEventListener("focusout", ({ target }) => {
    if (target.type === "number") target.value = value(target.dataset.key);
  });
  element.classList.add("knobs");
  watch(["value", "specs"], load);
  load();
}
