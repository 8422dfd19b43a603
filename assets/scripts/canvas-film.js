// The film of the clips in a question: every frame with what is kept of it in a strip, bars of how much that is, and a time
// cursor: the frame under it is the one that the canvas shows large.

import { paintMaps, small } from "./canvas-maps.js";
import { Painter } from "./canvas-paint.js";

const GAP = 3, BAR = 12; // CSS pixels: between frames, of the longest bar
const BOX = { height: 126, highest: 62, foot: BAR + GAP };
const LEAST_MS = 100, MOST_MS = 1000; // that a frame is shown while the clip plays

export const moves = (image) => (image.time ?? null) !== null;

// Where pictures lie in a box of this width and height, in as many rows as make them largest; below each some room, the
// foot. Parallel to images, null for those that are not `shown`. [{ x, y, scale, width, height }]
export function rows(images, { width, height, highest, foot }, shown = images.map(moves)) {
  const frames = images.filter((_, i) => shown[i]);
  let best = { high: 0, across: 1 };
  for (let lines = 1; lines <= frames.length; lines += 1) {
    const across = Math.ceil(frames.length / lines);
    const widths = Array.from({ length: lines }, (_, line) => frames.slice(line * across, (line + 1) * across)
      .reduce((sum, image) => sum + image.width / image.height, 0));
    const high = Math.min(highest, (width - GAP * (across - 1)) / Math.max(...widths), height / lines - foot - GAP);
    if (high > best.high) best = { high, across };
  }
  let at = 0, x = 0;
  return images.map((image, i) => {
    if (!shown[i]) return null;
    if (at % best.across === 0) x = 0;
    const scale = best.high / image.height, y = Math.floor(at / best.across) * (best.high + foot + GAP);
    const place = { x, y, scale, width: image.width * scale, height: best.high };
    at += 1;
    x += place.width + GAP;
    return place;
  });
}

// How many of the tokens are kept of each picture: [{ kept, of }]; a frame that shares the tokens of another has as many.
export function budgets(data, order) {
  const found = data.images.map(() => ({ kept: 0, of: 0 }));
  for (const grid of data.grids) found[grid.image].of += grid.stop - grid.start;
  for (const token of order) found[data.owner[token].image].kept += 1;
  return found.map((own, i) => found[data.images[i].joins ?? i]);
}

// "frame 3 of 8 · 1.0 s · 12 of 64 kept", "frame 4 of 8 · 1.5 s · not taken"; budget: of `budgets`, null where nobody knows.
export function momentWords(images, at, budget) {
  const { clip, time, gone, joins } = images[at], clips = [...new Set(images.filter(moves).map((image) => image.clip))];
  const frames = images.filter((image) => moves(image) && image.clip === clip);
  const which = clips.length > 1 ? ` of clip ${clips.indexOf(clip) + 1}` : "";
  const shared = (joins ?? null) === null ? "" : `, in one step with frame ${frames.indexOf(images[joins]) + 1}`;
  const kept = gone ? " · not taken" : budget ? ` · ${budget.kept} of ${budget.of} kept${shared}` : "";
  return `frame ${frames.indexOf(images[at]) + 1} of ${frames.length}${which} · ${time.toFixed(1)} s${kept}`;
}

export class Film {
  // part(name) -> a piece of the canvas; look(shown) has the canvas show these pictures; `redraw` paints all anew.
  constructor(part, colours, look, redraw) {
    Object.assign(this, { part, colours, look, redraw });
    this.data = null;
    this.frames = []; // places among the images
    this.at = -1; // the place of the one that is looked at
    this.painted = ""; // tells what stands in the strip
    this.timer = 0;
  }

  get shown() { return this.data.images.map((image, i) => !moves(image) || i === this.at); }

  // Another payload. The time stays where its pictures are those before.
  load(data) {
    this.stop();
    const before = this.data?.images ?? [], stay = before.length === data.images.length &&
      before.every((image, i) => image.src === data.images[i].src);
    this.data = data;
    this.frames = data.images.flatMap((image, i) => (moves(image) ? [i] : []));
    if (!stay) this.at = this.frames[0] ?? -1;
    this.painted = "";
    this.part("film").hidden = !this.frames.length;
    if (this.frames.length && !this.part("frames")) this.build();
    const joined = Math.max(1, ...this.frames.map((i) => data.images[i].frames));
    this.part("moment").title = joined > 1 ? `The model takes ${joined} frames of the clip as one; the first of them is shown` : "";
  }

  // The image at this place is looked at.
  to(image) {
    if (image === this.at || !this.frames.includes(image)) return;
    this.at = image;
    this.look(this.shown);
  }

  step(by) {
    if (!this.frames.length) return;
    const place = this.frames.indexOf(this.at) + by;
    this.to(this.frames[Math.min(Math.max(place, 0), this.frames.length - 1)]);
  }

  // The frame that a token belongs to.
  follow(token) { if (token >= 0) this.to(this.data.owner[token].image); }

  play() {
    if (this.timer) { this.stop(); return; }
    if (this.at === this.frames.at(-1)) this.to(this.frames[0]);
    this.part("roll").textContent = "⏸";
    this.tick();
  }

  tick() {
    const place = this.frames.indexOf(this.at), next = this.frames[place + 1];
    if (next === undefined) { this.stop(); return; }
    const { images } = this.data, apart = 1000 * (images[next].time - images[this.at].time);
    this.timer = setTimeout(() => { this.to(next); this.tick(); }, Math.min(Math.max(apart, LEAST_MS), MOST_MS));
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.part("roll").textContent = "▶";
  }

  // pictures, forced: of the painter. style: null where nothing is known of the patches. shown: what is painted of the
  // selection. marked: tokens with a frame of their own. told: a text that differs where any of these do.
  paint(pictures, style, shown, forced, marked, told) {
    const { data, colours } = this, width = this.part("film").clientWidth, ratio = window.devicePixelRatio || 1;
    if (!this.frames.length || !width) return;
    const kept = style && budgets(data, shown.order), key = `${width} ${ratio} ${told}`;
    if (key !== this.painted) {
      this.painted = key;
      this.places = rows(data.images, { ...BOX, width });
      const canvas = this.part("frames"), last = this.places[this.frames.at(-1)];
      const height = Math.ceil(last.y + last.height + BOX.foot);
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      const context = canvas.getContext("2d");
      const painter = new Painter(context, pictures, data, { zoom: ratio, x: 0, y: 0 }, colours, this.places);
      if (!style) painter.plain();
      else {
        if (small(painter, ratio)) paintMaps(painter, style, shown, forced);
        else painter.paint(style, shown, forced);
        painter.frames(marked, "white", ratio);
        this.bars(context, kept, ratio);
      }
    }
    this.describe(kept);
  }

  bars(context, kept, ratio) {
    const style = getComputedStyle(this.part("film"));
    for (const i of this.frames) {
      const { x, y, width, height } = this.places[i], share = kept[i].kept / (kept[i].of || 1);
      const bar = (long, colour) => {
        context.fillStyle = colour;
        context.fillRect(x * ratio, (y + height + GAP + BAR - long) * ratio, width * ratio, long * ratio);
      };
      bar(BAR, style.getPropertyValue("--border-color-primary"));
      bar(share && Math.max(1, BAR * share), style.getPropertyValue("--slider-color"));
    }
  }

  describe(kept) {
    const slider = this.part("time"), place = this.frames.indexOf(this.at), now = this.part("now").style;
    slider.max = this.frames.length - 1;
    slider.value = place;
    const words = momentWords(this.data.images, this.at, kept?.[this.at]);
    this.part("moment").textContent = words;
    slider.setAttribute("aria-valuetext", words);
    const { x, y, width, height } = this.places[this.at];
    for (const [name, value] of Object.entries({ left: x, top: y, width, height })) now[name] = `${value}px`;
  }

  // The strip, there once there is a clip: a press on it, and a drag along it, lead to the frame.
  build() {
    const canvas = document.createElement("canvas");
    canvas.dataset.part = "frames";
    canvas.setAttribute("aria-hidden", "true");
    this.part("strip").prepend(canvas);
    const scrub = (event) => {
      const bounds = canvas.getBoundingClientRect(), x = event.clientX - bounds.left, y = event.clientY - bounds.top;
      const image = this.places?.findIndex((p) => p && x >= p.x && x <= p.x + p.width + GAP && y >= p.y && y <= p.y + p.height + BAR + GAP);
      if (image >= 0) { this.stop(); this.to(image); }
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); scrub(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) scrub(event); });
  }
}
