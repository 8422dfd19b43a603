// The panel of knobs: what a typed number comes to, and how full a slider's bar is.

import assert from "node:assert/strict";
import { test } from "node:test";

import { full, nearest } from "../../assets/scripts/knobs.js";

const KNOB = { least: 2, most: 10, step: 1 };

test("a number goes to the nearest that is allowed", () => {
  assert.deepEqual(["2", "7.5", "10", "-3", "1e9", "-Infinity"].map((text) => nearest(KNOB, text)), [2, 7.5, 10, 2, 10, 2]);
});

test("what is no number is none", () => {
  assert.deepEqual(["", " ", "seven", "NaN", "1,5"].map((text) => nearest(KNOB, text)), [null, null, null, null, null]);
});

test("a bar is full in proportion", () => {
  assert.deepEqual([2, 4, 10].map((value) => full(KNOB, value)), [0, 25, 100]);
});
