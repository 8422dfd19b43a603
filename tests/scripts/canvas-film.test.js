// Clips on the canvas, as far as they need no page: where frames lie, bars, words, merged tokens across time.

import assert from "node:assert/strict";
import { test } from "node:test";

import { budgets, Film, momentWords, rows } from "../../assets/scripts/canvas-film.js";
import { mapping, small } from "../../assets/scripts/canvas-maps.js";
import { groupOf, neighbour, tokenAt } from "../../assets/scripts/canvas-model.js";
import { arrange, extent, Painter } from "../../assets/scripts/canvas-paint.js";
import { patchWords } from "../../assets/scripts/canvas-words.js";

const BOX = { width: 300, height: 126, highest: 60, foot: 13 };
const frame = (time, clip = 1) => ({ width: 80, height: 60, clip, time, frames: 2, src: `${clip} ${time}` });
const still = { width: 100, height: 50, clip: null, time: null, frames: 1, src: "still" };

// A still of one patch, then a clip of three frames with two patches each.
function sample() {
  const images = [still, frame(0), frame(0.5), frame(1)];
  const grids = images.map((_, i) => ({ start: i && 2 * i - 1, stop: 2 * i + 1, gh: 1, gw: i ? 2 : 1, image: i, role: "whole" }));
  const rects = Float32Array.from([0, 0, 100, 50, ...[1, 2, 3].flatMap(() => [0, 0, 40, 60, 40, 0, 80, 60])]);
  const owner = grids.flatMap((grid) => Array(grid.stop - grid.start).fill(grid));
  return { n: 7, images, grids, rects, owner, scores: null, off: {}, weighted: true };
}

const apart = (a, b) => a.x + a.width <= b.x + 1e-9 || b.x + b.width <= a.x + 1e-9 || a.y + a.height <= b.y - 13 + 1e-9 || b.y + b.height <= a.y - 13 + 1e-9;

test("frames lie apart in the box, as large as rows can make them; stills lie nowhere", () => {
  for (const count of [1, 2, 7, 16, 64]) {
    const images = [still, ...Array.from({ length: count }, (_, i) => frame(i))];
    const [none, ...places] = rows(images, BOX);
    assert.equal(none, null);
    for (const place of places) {
      assert.ok(place.x >= 0 && place.x + place.width <= 300 + 1e-9 && place.y >= 0 && place.y + place.height <= 126, `${count}`);
      assert.ok(Math.abs(place.width / place.height - 4 / 3) < 1e-9);
      assert.equal(place.height, places[0].height);
    }
    places.forEach((place, i) => places.slice(0, i).forEach((other) => assert.ok(apart(place, other))));
  }
  assert.equal(rows([frame(0)], BOX)[0].height, 60); // no larger than that, however much room there is
});

test("the canvas shows some of the pictures, and the world is as large as those", () => {
  const { images } = sample(), places = arrange(images, [true, false, true, false]);
  assert.deepEqual(places.map((place) => place === null), [false, true, false, true]);
  assert.equal(places[2].height, 60);
  assert.deepEqual(extent(places), { width: places[2].x + places[2].width, height: 60 });
});

test("patches of frames that are not shown are not painted", () => {
  const data = sample(), painted = [];
  const context = { beginPath() {}, stroke() {}, rect: (x, y) => painted.push([x, y]) };
  const places = arrange(data.images, [false, false, true, false]);
  new Painter(context, [], data, { zoom: 1, x: 0, y: 0 }, {}, places).frames([0, 1, 2, 3, 4, 5, 6], "white", 1);
  assert.deepEqual(painted, [[0.5, 0.5], [40.5, 0.5]]);
  assert.equal(tokenAt(data, 2, 50, 10), 4);
});

test("a frame's bar is what is kept of it", () => {
  assert.deepEqual(budgets(sample(), [0, 1, 5, 6]), [
    { kept: 1, of: 1 }, { kept: 1, of: 2 }, { kept: 0, of: 2 }, { kept: 2, of: 2 },
  ]);
});

test("the time cursor is told in words", () => {
  const { images } = sample();
  assert.equal(momentWords(images, 2, { kept: 1, of: 2 }), "frame 2 of 3 · 0.5 s · 1 of 2 kept");
  assert.equal(momentWords([...images, frame(0, 2)], 4, null), "frame 1 of 1 of clip 2 · 0.0 s");
});

test("of fewer frames those that were left out are gone, and those that share a step are kept", () => {
  const data = sample(), [first, , left, second] = data.images;
  Object.assign(left, { gone: true, joins: null });
  Object.assign(second, { gone: false, joins: 1 });
  data.grids = data.grids.slice(0, 2);
  Object.assign(data, { n: 3, owner: data.owner.slice(0, 3) });
  const kept = budgets(data, [0, 1, 2]);
  assert.deepEqual(kept.slice(1), [{ kept: 2, of: 2 }, { kept: 0, of: 0 }, { kept: 2, of: 2 }]);
  assert.equal(momentWords(data.images, 2, kept[2]), "frame 2 of 3 · 0.5 s · not taken");
  assert.equal(momentWords(data.images, 3, kept[3]), "frame 3 of 3 · 1.0 s · 2 of 2 kept, in one step with frame 1");
  const drawn = [], context = { drawImage: (picture) => drawn.push(picture) };
  const pictures = data.images.map((_, i) => ({ plain: `plain ${i}`, dark: `dark ${i}` }));
  new Painter(context, pictures, data, { zoom: 1, x: 0, y: 0 }, {}).backdrop("dark");
  assert.deepEqual(drawn, ["dark 0", "dark 1", "dark 2", "plain 3"]);
  assert.equal(first.gone, undefined); // a still has none of it
});

test("a page key leads to the same patch a frame before or after", () => {
  const data = sample();
  assert.equal(neighbour(data, 2, "PageDown"), 4);
  assert.equal(neighbour(data, 4, "PageUp"), 2);
  assert.equal(neighbour(data, 6, "PageDown"), 6);
  assert.equal(neighbour(data, 2, "PageUp"), 0); // the still before the clip
});

test("merged tokens are told across time", () => {
  const data = sample(), into = Int32Array.from([0, 1, -1, 1, 4, 1, 6]);
  const chosen = { order: [0, 1, 4, 6], k: 4, into, nearest: null, exact: true };
  assert.deepEqual(groupOf(chosen, 3), [1, 3, 5]);
  assert.deepEqual(groupOf(chosen, 2), []);
  assert.deepEqual(groupOf(chosen, 4), []);
  assert.match(patchWords(data, chosen, 5), /^patch \(1, 1\) of frame 3 · dropped · one of 3 merged patches, of frames 1 to 3$/);
  assert.match(patchWords(data, chosen, 0), /^patch \(1, 1\) · kept, pick 1$/);
});

// A film on a page that is as little as it asks for.
function film() {
  const parts = {}, looked = [];
  const part = (name) => (parts[name] ??= { hidden: true, textContent: "", title: "" });
  const made = new Film(part, {}, (shown) => looked.push(shown), () => {});
  return { made, parts, looked };
}

test("the cursor steps within the clip, and the canvas is told which pictures are seen", () => {
  const { made, parts, looked } = film(), data = sample();
  made.load(data);
  assert.equal(parts.film.hidden, false);
  assert.deepEqual(made.shown, [true, true, false, false]);
  made.step(1);
  made.step(5);
  assert.deepEqual(looked, [[true, false, true, false], [true, false, false, true]]);
  made.step(1);
  assert.equal(looked.length, 2); // there is no later one
  made.follow(1);
  assert.equal(made.at, 1);
  assert.match(parts.moment.title, /2 frames of the clip as one/);
});

test("the time stays with the same pictures, and begins anew with others", () => {
  const { made, parts } = film();
  made.load(sample());
  made.step(2);
  made.load(sample()); // another method
  assert.equal(made.at, 3);
  made.load({ ...sample(), images: [still, frame(0, 2), frame(5, 2), frame(6, 2)] });
  assert.equal(made.at, 1);
  made.load({ images: [still] });
  assert.deepEqual([made.at, parts.film.hidden, made.shown], [-1, true, [true]]);
});

test("a clip that plays goes on to its end and stops there", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { made, parts } = film();
  made.load(sample());
  made.play();
  assert.equal(parts.roll.textContent, "⏸");
  t.mock.timers.tick(500);
  assert.equal(made.at, 2);
  t.mock.timers.tick(500);
  assert.equal(made.at, 3);
  t.mock.timers.tick(2000);
  assert.deepEqual([made.at, parts.roll.textContent], [3, "▶"]);
  made.play(); // again, from its start
  assert.equal(made.at, 1);
  made.play();
  assert.equal(parts.roll.textContent, "▶");
});

const COLOURS = { ramp: [[0, 0, 0], [100, 100, 100], [200, 200, 200]], groups: [[9, 8, 7]], seen: [0.2, 0.8] };

test("a map has a pixel for every token, as the styles have it", () => {
  const data = { ...sample(), scores: Float32Array.from([0, 0.5, 1, 0, 0, 0, 0]) };
  const painter = new Painter(null, [], data, { zoom: 1, x: 0, y: 0 }, COLOURS);
  const chosen = { order: Uint16Array.from([2, 5]), into: null, lives: null };
  assert.deepEqual([0, 2, 5].map(mapping(painter, "dimmed", chosen).seen), [0, 1, 1]);
  assert.equal(mapping(painter, "grid", chosen).base, "light");
  assert.deepEqual([1, 2].map(mapping(painter, "heat", chosen).tint), [[100, 100, 100, 120], [200, 200, 200, 235]]);
  assert.deepEqual([1, 2, 5].map(mapping(painter, "order", chosen).tint).map(([red, , , alpha]) => [red, alpha]), [[200, 0], [200, 204], [0, 204]]);
  const merged = mapping(painter, "merged", { ...chosen, into: Int32Array.from([-1, 2, 2, -1, -1, 5, -1]) });
  assert.deepEqual([0, 1, 2, 5].map(merged.tint), [[0, 0, 0, 0], [9, 8, 7, 128], [9, 8, 7, 128], [0, 0, 0, 0]]);
  const lived = mapping(painter, "dimmed", { ...chosen, lives: Uint16Array.from([0, 1, 2, 0, 0, 2, 0]), alive: [3, 2] });
  assert.deepEqual([0, 1, 2].map(lived.seen), [0, 0.5, 1]);
});

test("patches are small where a pixel or two of them is seen", () => {
  const data = sample(), at = (zoom) => small(new Painter(null, [], data, { zoom, x: 0, y: 0 }, COLOURS), 1);
  assert.deepEqual([at(1), at(0.05)], [false, true]);
});
