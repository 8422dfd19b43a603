// The chart of a plan, below its drawing: what is alive where, how far a step may go, and the plan's text.

import assert from "node:assert/strict";
import { test } from "node:test";

import { alive, bounds, moved, named, scale, words, written } from "../../assets/scripts/plan-chart.js";

const CUTS = [
  { after: 1, method: "fastv", title: "FastV", count: 32, earliest: 1 }, { after: 3, method: "dart", title: "DART", count: 8, earliest: 1 },
];
const PLAN = { n: 100, layers: 5, entry: "idpruner", entered: 64, cuts: CUTS, evict: false };

test("a layer processes what the cuts before it left", () => {
  assert.deepEqual(alive(PLAN), [64, 64, 32, 32, 8, 8]);
  assert.deepEqual(alive({ ...PLAN, cuts: [{ ...CUTS[0], after: 0 }] }), [64, 32, 32, 32, 32, 32]);
});

test("a step stays between those beside it, and where its method can be", () => {
  assert.deepEqual(bounds(PLAN, -1), { count: [32, 100], after: [0, 0] });
  assert.deepEqual(bounds(PLAN, 0), { count: [8, 64], after: [1, 2] });
  assert.deepEqual(bounds(PLAN, 1), { count: [1, 32], after: [2, 4] });
  assert.deepEqual(bounds({ ...PLAN, entry: null, entered: 100 }, -1).count, [100, 100]);
  assert.equal(written(moved(PLAN, 0, { after: 0, count: 20.4 })), "pre:idpruner:64,1:fastv:20,3:dart:8");
  assert.equal(written(moved(PLAN, 0, { after: 9, count: 1 })), "pre:idpruner:64,2:fastv:8,3:dart:8");
  assert.equal(written(moved(PLAN, 1, { after: 9, count: -3 })), "pre:idpruner:64,1:fastv:32,4:dart:1");
  assert.equal(written(moved(PLAN, -1, { after: 3, count: 200 })), "pre:idpruner:100,1:fastv:32,3:dart:8");
  assert.equal(written(PLAN), "pre:idpruner:64,1:fastv:32,3:dart:8"); // as it was
});

test("the text holds all of the plan", () => {
  assert.equal(written({ ...PLAN, entry: null, entered: 100, evict: true }), "1:fastv:32,3:dart:8,evict");
});

test("a point of the drawing is where a step was drawn", () => {
  for (const width of [280, 620]) {
    const place = scale(PLAN, width);
    for (const { after, count } of CUTS) {
      const there = place.at(place.x(after + 1), place.y(count));
      assert.equal(there.after, after);
      assert.ok(Math.abs(there.count - count) < 1e-9);
    }
    assert.ok(place.x(5) < width);
  }
});

test("steps and layers are said in words", () => {
  assert.equal(words(PLAN, -1), "64 of 100 tokens enter the LLM");
  assert.equal(words(PLAN, 1), "DART after layer 3: 8 of 100 tokens stay");
  assert.deepEqual(named(4), [1, 2, 3, 4]);
  assert.deepEqual(named(28), [1, 4, 8, 12, 16, 20, 24, 28]);
});
