// What the canvas shows of a method that not every style can show. The page is as much of it as the view asks for.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Painter } from "../../assets/scripts/canvas-paint.js";
import { View } from "../../assets/scripts/canvas-view.js";

const WHY = "the picture is encoded anew: none of the tokens is dropped";
const SETTING = { lambda: 0.5 };
const CHOSEN = { order: [1, 0], k: 2, nearest: null, exact: true };

// A view, the styles of its page, and its parts by name.
function page(off) {
  const inputs = ["dimmed", "grid", "order"].map((value) => {
    const label = { title: "" };
    return { value, disabled: false, label, closest: () => label };
  });
  const parts = {};
  const part = () => ({ textContent: "", dataset: {}, replaceChildren() {} });
  const canvas = { getContext: () => null, getAttribute: () => "", setAttribute() {} };
  const element = {
    dataset: {},
    querySelectorAll: () => [],
    querySelector: (name) => (name === "canvas" ? canvas : (parts[name] ??= part())),
  };
  globalThis.document = { querySelectorAll: (name) => (name === "#style input" ? inputs : []) };
  const view = new View(element, { forcedIn: [0, 0, 0] }, () => {});
  view.data = { off, n: 2, method: { title: "Lower resolution" }, weighted: false, images: [] };
  return { view, inputs, count: () => parts['[data-part="count"]'].textContent };
}

test("a style that shows nothing of the method is off and says why, until another method can show it", () => {
  const { view, inputs } = page({ dimmed: WHY, order: WHY });
  view.part("count").textContent = "2 tokens";
  view.offer("grid");
  assert.deepEqual(inputs.map((input) => input.disabled), [true, false, true]);
  assert.deepEqual(inputs.map((input) => input.label.title), [WHY, "", WHY]);
  assert.equal(view.part("count").textContent, "2 tokens");
  view.data.off = {};
  view.offer("grid");
  assert.deepEqual(inputs.map((input) => input.disabled), [false, false, false]);
  assert.deepEqual(inputs.map((input) => input.label.title), ["", "", ""]);
});

test("where the chosen style is off the grid is drawn, and the line below says why", (t) => {
  const drawn = [];
  t.mock.method(Painter.prototype, "paint", (style) => drawn.push(style));
  const { view, count } = page({ dimmed: WHY });
  for (const style of ["dimmed", "grid", "order"]) {
    view.paint({ ...SETTING, style }, CHOSEN, CHOSEN, null);
    assert.equal(count().endsWith(` · ${WHY}`), style === "dimmed");
  }
  assert.deepEqual(drawn, ["grid", "grid", "order"]);
});

test("where tokens are not on a grid the line below says so", () => {
  const { view, count } = page({});
  for (const placed of [true, false]) {
    view.data.placed = placed;
    view.part("count").textContent = "2 tokens";
    view.offer("grid");
    assert.equal(count().includes("not on a grid"), !placed);
  }
});
