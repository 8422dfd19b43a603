// A clip from the camera: its clock, and what is said where there is none.

import assert from "node:assert/strict";
import { test } from "node:test";

test("minutes and seconds, and what to do by the browser's error", async () => {
  globalThis.document = { addEventListener() {} }; // media.js listens to the page
  const { clock, refusal } = await import("../../assets/scripts/record.js");
  assert.deepEqual([0, 9.9, 60, 75.2].map(clock), ["0:00", "0:09", "1:00", "1:15"]);
  assert.match(refusal("NotAllowedError"), /allow it/);
  assert.match(refusal("SecurityError"), /https/);
  assert.match(refusal("OverconstrainedError"), /OverconstrainedError.*choose a clip/);
});
