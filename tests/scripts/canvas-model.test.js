// The canvas's model against selections that are worked out by hand.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";

import {
  decode, depthsOf, keepCount, lambdaOf, neighbour, placeOf, rowOf, seenBy, selectionAt, styleOf, tokenAt, unpack, unpackExact, withOverrides,
} from "../../assets/scripts/canvas-model.js";

const packed = (array) => Buffer.from(array.buffer).toString("base64");

// A thumbnail of 1 × 2 over two tiles of 2 × 1 each: 6 tokens on one picture of 40 × 40 pixels.
const GRIDS = [
  { start: 0, stop: 2, gh: 1, gw: 2, image: 0, role: "thumbnail" },
  { start: 2, stop: 4, gh: 2, gw: 1, image: 0, role: "tile" },
  { start: 4, stop: 6, gh: 2, gw: 1, image: 0, role: "tile" },
];
const RECTS = [
  [0, 0, 20, 40], [20, 0, 40, 40], [0, 0, 20, 20], [0, 20, 20, 40], [20, 0, 40, 20], [20, 20, 40, 40],
];
const PAYLOAD = {
  key: "a", n: 6, nested: true, weighted: true, lambdas: [0, 0.5, 1],
  images: [{ width: 40, height: 40 }], grids: GRIDS,
  rects: packed(Float32Array.from(RECTS.flat())),
  orders: packed(Uint16Array.from([0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0, 2, 0, 4, 1, 3, 5])),
  scores: packed(Float32Array.from([0, 0.25, 0.5, 0.75, 1, 0.5])),
};
const DATA = unpack(PAYLOAD);
const EXACT = unpackExact({
  key: "a", scope: "sample", retention: 0.5, lambda: 0.3, order: packed(Uint16Array.from([3, 1, 0])),
  nearest: packed(Float32Array.from([NaN, 0.5, 0.5, 0.5, 0.5, 0.5])), into: packed(Int32Array.from([0, 1, -1, 3, 3, -1])),
});
const STAGED = unpackExact({
  key: "a", scope: "sample", retention: 0.5, lambda: null, order: packed(Uint16Array.from([3])),
  nearest: packed(new Float32Array(6)), into: null, lives: packed(Uint16Array.from([1, 0, 1, 4, 2, 1])), alive: [5, 2, 1, 1],
  endurance: packed(Uint16Array.from([3, 4, 0, 2, 5, 1])),
});
const kept = (setting, exact = null) => [...selectionAt(DATA, setting, exact).order];

test("arrays come out of their base64 as they were put in", () => {
  assert.deepEqual([...decode(packed(Int32Array.from([-1, 70000])), Int32Array)], [-1, 70000]);
  assert.deepEqual(DATA.orders.map((order) => [...order]), [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 0, 4, 1, 3, 5]]);
  assert.deepEqual([...DATA.rects.subarray(8, 12)], [0, 0, 20, 20]);
  assert.deepEqual(DATA.owner.map((grid) => grid.start), [0, 0, 2, 2, 4, 4]);
  assert.equal(unpack({ ...PAYLOAD, scores: null }).scores, null);
  assert.deepEqual([...EXACT.into], [0, 1, -1, 3, 3, -1]);
  assert.equal(unpackExact(null), null);
});

test("the budget is rounded half up, and is at least one token and at most all", () => {
  const counts = [[10, 0.25], [10, 0.24], [6, 0.01], [6, 1], [6, 2], [200, 0.145]].map(([n, share]) => keepCount(n, share));
  assert.deepEqual(counts, [3, 2, 1, 6, 6, 29]); // 200 · 0.145 is 28.999999999999996 to a computer
});

test("λ is the importance's part of both weights, and nothing where both are 0", () => {
  assert.deepEqual([[1, 1], [1, 2], [0, 1], [0, 0]].map(([i, d]) => lambdaOf(i, d)), [0.5, 0.333333, 0, null]);
});

test("a λ beside the grid takes the nearest row, and says that it is not exact", () => {
  assert.deepEqual(rowOf(DATA, 0.5), { row: 1, exact: true });
  assert.deepEqual(rowOf(DATA, 0.8), { row: 2, exact: false });
  assert.deepEqual(rowOf(DATA, null), { row: 0, exact: true });
  assert.deepEqual(rowOf({ lambdas: null }, 0.8), { row: 0, exact: true });
});

test("the first picks of a row are kept", () => {
  assert.deepEqual(kept({ retention: 0.5, lambda: 1 }), [2, 0, 4]);
  assert.deepEqual(kept({ retention: 1 / 6, lambda: 0.5 }), [5]);
  assert.equal(selectionAt(DATA, { retention: 0.5, lambda: 1 }, null).exact, true);
  assert.equal(selectionAt(DATA, { retention: 0.5, lambda: 1, scope: "tile" }, null).exact, false);
  assert.equal(selectionAt({ ...DATA, nested: false }, { retention: 0.5, lambda: 1 }, null).exact, false);
});

test("what the server computed stands for its own setting alone", () => {
  const setting = { retention: 0.5, lambda: 0.3, scope: "sample" };
  assert.deepEqual(kept(setting, EXACT), [3, 1, 0]);
  assert.equal(selectionAt(DATA, setting, EXACT).into, EXACT.into);
  for (const other of [{ retention: 0.34 }, { lambda: 0.31 }, { scope: "image" }]) {
    assert.equal(selectionAt(DATA, { ...setting, ...other }, EXACT).into, null);
  }
  assert.equal(selectionAt({ ...DATA, key: "b" }, setting, EXACT).into, null);
});

test("forced patches take their place within the same budget", () => {
  const setting = { retention: 0.5, lambda: 1 };
  const chosen = selectionAt(DATA, setting, null);
  const forced = (into, out) => [...withOverrides(DATA, chosen, setting, new Set(into), new Set(out)).order];
  assert.equal(withOverrides(DATA, chosen, setting, new Set(), new Set()), chosen);
  assert.deepEqual(forced([5], []), [5, 2, 0]);
  assert.deepEqual(forced([], [2, 4]), [0, 1, 3]);
  assert.deepEqual(forced([3, 5], [2]), [3, 5, 0]);
});

test("a token is seen up to the last layer that processes it", () => {
  const seen = (layer) => [...seenBy(STAGED, layer)];
  assert.deepEqual([0, 1, 2, 3, 4].map(seen), [[3, 4, 0, 2, 5, 1], [3, 4, 0, 2, 5], [3, 4], [3], [3]]);
  assert.deepEqual([1, 2, 3, 4].map((layer) => seen(layer).length), STAGED.alive);
});

test("between layers, a preview is those that lived longest, and nothing where the server could tell nothing", () => {
  const staged = unpack({ ...PAYLOAD, staged: true, nested: false, lambdas: null, orders: null });
  const at = (exact) => [...selectionAt(staged, { retention: 1 / 3, lambda: 1 }, exact).order];
  assert.deepEqual([STAGED, { problem: "out of reach" }, null, { ...STAGED, key: "b" }].map(at), [[3, 4], [], [], []]);
  assert.deepEqual(unpackExact({ problem: "out of reach" }), { problem: "out of reach" });
});

test("under a point lies the smallest patch", () => {
  assert.deepEqual([[5, 5], [5, 25], [25, 5], [39.9, 39.9], [40, 5], [-1, 5]].map(([x, y]) => tokenAt(DATA, 0, x, y)), [2, 3, 4, 5, -1, -1]);
  assert.equal(tokenAt(DATA, 1, 5, 5), -1);
});

test("arrow keys stay in their grid, pages change it", () => {
  assert.deepEqual(placeOf(DATA, 3), { grid: GRIDS[1], row: 1, column: 0 });
  const keys = { ArrowRight: 1, ArrowLeft: 0, ArrowDown: 0, End: 1, Home: 0, PageDown: 2, PageUp: 0, x: null };
  for (const [key, token] of Object.entries(keys)) assert.equal(neighbour(DATA, 0, key), token, key);
  assert.deepEqual(["ArrowDown", "ArrowUp", "PageDown", "PageUp"].map((key) => neighbour(DATA, 5, key)), [5, 4, 4, 2]);
});

test("where tokens leave between layers, it is known until which layer each lives", () => {
  const chosen = selectionAt({ ...DATA, nested: false }, { retention: 0.5, lambda: 0.5, scope: "sample" }, STAGED);
  assert.deepEqual([[...chosen.order], [...chosen.lives], chosen.exact], [[3], [1, 0, 1, 4, 2, 1], true]);
  assert.deepEqual(depthsOf(chosen), [[1, 0.25], [2, 0.5]]);
  const preview = selectionAt({ ...DATA, nested: false }, { retention: 0.4, lambda: 0.5, scope: "sample" }, STAGED);
  assert.deepEqual([preview.lives, preview.alive, preview.exact], [null, null, false]);
});

test("a style that shows nothing of the method is painted as another, the rest as wished", () => {
  const off = { heat: "there are no scores" };
  assert.equal(styleOf({ off }, "heat"), "grid");
  assert.equal(styleOf({ off }, "order"), "order");
  assert.equal(styleOf({ off: {} }, "heat"), "heat");
});
