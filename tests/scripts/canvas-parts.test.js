// The other parts of the canvas that need no page: forced patches and strokes, words, where pictures and patches lie.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Forced, stroke } from "../../assets/scripts/canvas-brush.js";
import { arrange, css, Painter, rampAt, rowsOf } from "../../assets/scripts/canvas-paint.js";
import { Replay } from "../../assets/scripts/canvas-replay.js";
import { countWords, layerSteps, patchWords, pickSteps } from "../../assets/scripts/canvas-words.js";

const GRID = { start: 0, stop: 4, gh: 2, gw: 2, image: 0, role: "whole" };
const DATA = {
  n: 4, weighted: true, scores: Float32Array.from([0.1, 0.9, 0.5, 0.5]), grids: [GRID], owner: Array(4).fill(GRID),
  images: [{ width: 100, height: 50 }], rects: Float32Array.from([0, 0, 50, 25, 50, 0, 100, 25, 0, 25, 50, 50, 50, 25, 100, 50]),
};
const CHOSEN = { order: Uint16Array.from([1, 2]), k: 2, nearest: null, exact: true };

test("no more is forced in than the budget, nor out than may go", () => {
  const forced = new Forced();
  assert.equal(forced.force(0, "in", 4, 1), null);
  assert.match(forced.force(1, "in", 4, 1), /budget of 1 tokens is forced already/);
  assert.equal(forced.force(0, "in", 4, 1), null); // again: it is one of those already
  assert.equal(forced.text, "[[0],[]]");
  for (const token of [1, 2]) assert.equal(forced.force(token, "out", 4, 2), null);
  assert.match(forced.force(3, "out", 4, 2), /2 tokens must stay/);
  assert.equal(forced.text, "[[0],[1,2]]");
});

test("a patch is forced one way at a time, and is released", () => {
  const forced = new Forced([0], [1]);
  const before = forced.copy();
  forced.force(0, "out", 4, 1);
  assert.equal(forced.text, "[[],[1,0]]");
  forced.release(1);
  forced.release(0);
  assert.equal(forced.size, 0);
  assert.equal(before.text, "[[0],[1]]"); // a stroke that is undone
});

test("neighbours in a row are one stretch, in whatever order they were picked", () => {
  assert.deepEqual(rowsOf(DATA, Uint16Array.from([3, 1, 0, 2])), [[0, 1], [2, 3]]);
  assert.deepEqual(rowsOf(DATA, [1, 2]), [[1, 1], [2, 2]]);
  const other = { ...DATA, owner: [GRID, { ...GRID }, GRID, GRID] };
  assert.deepEqual(rowsOf(other, [0, 1]), [[0, 0], [1, 1]]); // of two pictures
  const apart = { ...DATA, rects: DATA.rects.map((side, i) => (i === 4 ? 60 : side)) };
  assert.deepEqual(rowsOf(apart, [0, 1, 2, 3]), [[0, 0], [1, 1], [2, 3]]);
  assert.deepEqual(rowsOf(DATA, []), []);
});

test("a stroke leaves no gap and ends where the hand is", () => {
  for (const to of [{ x: 31, y: 0 }, { x: -7, y: 24 }, { x: 0, y: 0 }]) {
    const way = [{ x: 0, y: 0 }, ...stroke({ x: 0, y: 0 }, to)];
    assert.deepEqual(way.at(-1), to);
    for (let i = 1; i < way.length; i += 1) assert.ok(Math.hypot(way[i].x - way[i - 1].x, way[i].y - way[i - 1].y) <= 2);
  }
});

test("the count names tokens, share and λ", () => {
  assert.equal(countWords(DATA, CHOSEN, 0.5), "2 of 4 tokens kept (50 %) · λ = 0.50");
  assert.match(countWords(DATA, CHOSEN, null), /both weights are 0$/);
  assert.match(countWords({ ...DATA, weighted: false }, CHOSEN, 0.5), /no λ$/);
  const staged = { ...DATA, staged: true, weighted: false };
  assert.equal(
    countWords(staged, { ...CHOSEN, k: 1, alive: [4, 2, 1, 1] }, 0.5),
    "1 of 4 tokens alive at the end · 50 % in the mean of the layers",
  );
  assert.equal(countWords(staged, { ...CHOSEN, k: 2, alive: null }, 0.5), "4 tokens · 50 % in the mean of the layers");
  assert.match(countWords({ ...DATA, n: 2560 }, { ...CHOSEN, k: 1280 }, 1), /^1,280 of 2,560 tokens/);
});

test("a patch is told by place, rank, importance and likeness", () => {
  assert.equal(patchWords(DATA, CHOSEN, 2), "patch (2, 1) · kept, pick 2 · importance above 25 % of the tokens");
  assert.equal(patchWords({ ...DATA, scores: null }, CHOSEN, 3), "patch (2, 2) · dropped");
  assert.equal(patchWords({ ...DATA, scores: null, placed: false }, CHOSEN, 3), "token 4, on no grid · dropped");
  const near = { ...CHOSEN, nearest: Float32Array.from([0.25, NaN, NaN, 0.5]) };
  assert.match(patchWords(DATA, near, 0), /dropped · importance above 0 % of the tokens · 0\.25 similar to the nearest kept$/);
  assert.doesNotMatch(patchWords(DATA, near, 1), /similar/);
  const tile = { ...DATA, owner: Array(4).fill({ ...GRID, role: "tile" }) };
  assert.match(patchWords(tile, CHOSEN, 1), /^patch \(1, 2\), tile · kept, pick 1 /);
});

test("pictures lie side by side at equal heights", () => {
  const [first, second] = arrange([{ width: 300, height: 180 }, { width: 140, height: 200 }]);
  assert.deepEqual(second, { x: 300 * (200 / 180) + 4, y: 0, scale: 1, width: 140, height: 200 });
  assert.equal(first.height, 200);
  assert.ok(first.x + first.width < second.x);
});

test("a patch's box follows zoom and place", () => {
  const painter = new Painter(null, [], DATA, { zoom: 2, x: 10, y: -5 }, {});
  assert.deepEqual(painter.box(3), [110, 45, 100, 50]);
});

test("colours of values end where the ramp ends", () => {
  const ramp = [[0, 0, 0], [100, 0, 0], [200, 0, 0]];
  assert.deepEqual([-1, 0, 0.5, 1, 7].map((value) => rampAt(ramp, value, 0.5)), [0, 0, 100, 200, 200].map((red) => css([red, 0, 0], 0.5)));
});

const part = () => ({ attributes: {}, setAttribute(name, value) { this.attributes[name] = value; } });
const bar = () => ({ step: part(), at: part(), play: part() });

test("the replay is where its step says, and at its end it is nowhere", () => {
  const parts = bar(), steps = pickSteps({ k: 5 });
  const replay = new Replay((name) => parts[name], () => steps, () => replay.describe(steps));
  replay.to(3);
  assert.deepEqual([replay.step, parts.at.textContent], [3, "pick 3 of 5"]);
  replay.to(-2);
  assert.equal(replay.step, 0);
  replay.to(5);
  assert.deepEqual([replay.step, parts.at.textContent, parts.step.value], [null, "all picks", 5]);
});

test("between layers the replay goes through the layers, and says how many tokens each processes", () => {
  const lived = { lives: Uint16Array.from([2, 0, 1, 2]), alive: [3, 2], endurance: Uint16Array.from([0, 3, 2, 1]) };
  const { most, words } = layerSteps(lived);
  assert.deepEqual([0, 1, 2, null].map(words), ["before the LLM: 4", "layer 1 of 2: 3 alive", "layer 2 of 2: 2 alive", "layer 2 of 2: 2 alive"]);
  assert.equal(most, 2);
  const parts = bar(), replay = new Replay((name) => parts[name], () => layerSteps({}), () => {});
  replay.describe(layerSteps({}));
  assert.deepEqual([parts.step.disabled, parts.play.disabled, parts.at.textContent], [true, true, ""]);
});

test("a replay that plays comes to its end, and stops where it is asked to", (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const parts = bar(), seen = [];
  const replay = new Replay((name) => parts[name], () => pickSteps({ k: 3 }), () => seen.push(replay.step));
  replay.play();
  assert.equal(parts.play.textContent, "⏸");
  t.mock.timers.tick(50);
  replay.play(); // pause
  t.mock.timers.tick(500);
  assert.deepEqual([seen, parts.play.textContent], [[0, 1], "▶"]);
  replay.play();
  t.mock.timers.tick(500);
  assert.deepEqual([seen, parts.play.textContent], [[0, 1, 2, null], "▶"]);
});
