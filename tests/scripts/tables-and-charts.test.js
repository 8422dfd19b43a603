// Sorting of tables, and the geometry of charts.

import assert from "node:assert/strict";
import { test } from "node:test";

import { beside, nearest } from "../../assets/scripts/charts.js";
import { clicked, sorted } from "../../assets/scripts/sort.js";

const order = (values, way) => sorted(values, way).map((place) => values[place]);

test("numbers are sorted as numbers, those that are missing last both ways", () => {
  assert.deepEqual(order([10, null, 9, -1, 0], "ascending"), [-1, 0, 9, 10, null]);
  assert.deepEqual(order([10, null, 9, -1, 0], "descending"), [10, 9, 0, -1, null]);
});

test("equal rows stay as they stood", () => {
  assert.deepEqual(sorted([2, 1, 2, null, 1, null], "ascending"), [1, 4, 0, 2, 3, 5]);
  assert.deepEqual(sorted([2, 1, 2, null, 1, null], "descending"), [0, 2, 1, 4, 3, 5]);
});

test("a second click turns the order round, another column begins anew", () => {
  const first = clicked({ column: -1, way: "ascending" }, 2);
  assert.deepEqual(first, { column: 2, way: "ascending" });
  const second = clicked(first, 2);
  assert.deepEqual(second, { column: 2, way: "descending" });
  assert.deepEqual(clicked(second, 2), { column: 2, way: "ascending" });
  assert.deepEqual(clicked(second, 1), { column: 1, way: "ascending" });
});

const BOXES = [[0, 0], [100, 0], [50, 50]].map(([x, y]) => ({ x: x - 6, y: y - 6, width: 12, height: 12 }));

test("a click takes the nearest point within reach", () => {
  assert.equal(nearest(BOXES, 2, -3), 0);
  assert.equal(nearest(BOXES, 40, 30), 2);
  assert.equal(nearest(BOXES, 100, 36), 1);
  assert.equal(nearest(BOXES, 100, -37), -1);
  assert.equal(nearest([], 0, 0), -1);
});

test("arrow keys walk round, other keys lead nowhere", () => {
  assert.deepEqual([beside(0, 3, "ArrowRight"), beside(2, 3, "ArrowDown"), beside(0, 3, "ArrowLeft"), beside(1, 3, "ArrowUp")], [1, 0, 2, 0]);
  assert.deepEqual([beside(-1, 3, "ArrowRight"), beside(1, 3, "Enter")], [-1, -1]);
});
