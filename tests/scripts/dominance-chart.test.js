// The chart of what dominates, without a page: what it spans, what it says of a layer.

import assert from "node:assert/strict";
import { test } from "node:test";

import { number, span, ticks, valuesOf, words } from "../../assets/scripts/dominance-chart.js";

const LAYERS = [{ layer: 0, mdi: 16, text: 4, picture: 0.25 }, { layer: 2, mdi: null, text: 1, picture: 0 }];
const VALUE = { layers: 3, full: LAYERS, kept: [{ layer: 0, mdi: 2, text: 1.5, picture: 0.75 }] };

test("balance lies inside, and nothing without a logarithm counts", () => {
  for (const values of [[], [null, 0], [16, 2], [0.01, null], [0.9, 1.1]]) {
    const [least, most] = span(values);
    assert.ok(least > 0 && least < 1 && most > 1);
    for (const value of values.filter((each) => each > 0)) assert.ok(least < value && value < most);
    assert.ok(ticks(least, most).includes(1));
  }
});

test("few values are named, however far apart they lie", () => {
  for (const [least, most] of [[0.8, 1.25], [0.3, 20], [0.001, 1000], [1e-6, 1e6]]) {
    const named = ticks(least, most);
    assert.ok(named.length <= 8, String(named));
    assert.ok(named.every((tick) => tick >= least && tick <= most));
  }
});

test("a layer is told with both sides, and what is not there as such", () => {
  assert.deepEqual(valuesOf(VALUE, 1), [[16, 2], [4, 1.5], [0.25, 0.75]]);
  assert.deepEqual(valuesOf(VALUE, 2), [[null, null], [null, null], [null, null]]);
  assert.deepEqual(valuesOf(VALUE, 3), [[null, null], [1, null], [0, null]]);
  assert.equal(number(null), "–");
  assert.equal(words(VALUE, 1), "Layer 1: MDI 16.0, with this plan 2.00; AEI of the text 4.00, with this plan 1.50; AEI of the picture 0.250, with this plan 0.750");
});
