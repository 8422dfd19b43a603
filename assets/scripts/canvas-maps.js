// Painting frames of clips whose patches are too small for outlines: all patches of a frame at once, as a map of one pixel
// for each that is scaled onto it. The styles are those of canvas-paint.js.

import { css, depthAlpha } from "./canvas-paint.js";

const SMALL = 7; // CSS pixels

// Whether all patches that are painted are so small. ratio: of the canvas's pixels to CSS's.
export function small(painter, ratio) {
  return painter.data.grids.every((grid) => !painter.shows(grid.start) || painter.box(grid.start)[2] < SMALL * ratio);
}

export function paintMaps(painter, style, chosen, forced) {
  const { base, seen, tint } = mapping(painter, style, chosen);
  const { context, data, pictures, view: { zoom, x, y } } = painter;
  const map = new OffscreenCanvas(1, 1), mapped = map.getContext("2d", { willReadFrequently: true });
  const piece = new OffscreenCanvas(1, 1), pieced = piece.getContext("2d");

  // rgba(token) -> the colour of its pixel. where: [x, y, width, height].
  function draw(onto, { start, gh, gw }, rgba, where) {
    Object.assign(map, { width: gw, height: gh });
    const pixels = mapped.createImageData(gw, gh);
    for (let i = 0; i < gh * gw; i += 1) pixels.data.set(rgba(start + i), 4 * i);
    mapped.putImageData(pixels, 0, 0);
    onto.imageSmoothingEnabled = false;
    onto.drawImage(map, ...where);
    onto.imageSmoothingEnabled = true;
  }

  painter.begin();
  painter.backdrop(base);
  for (const grid of data.grids.filter(({ start }) => painter.shows(start))) {
    const place = painter.places[grid.image];
    const target = [place.x * zoom + x, place.y * zoom + y, place.width * zoom, place.height * zoom];
    if (seen) {
      Object.assign(piece, { width: Math.ceil(target[2]), height: Math.ceil(target[3]) });
      const whole = [0, 0, piece.width, piece.height];
      draw(pieced, grid, (token) => [0, 0, 0, 255 * seen(token)], whole);
      pieced.globalCompositeOperation = "source-in";
      pieced.drawImage(pictures[grid.image].plain, ...whole);
      context.drawImage(piece, ...target);
    }
    if (tint) draw(context, grid, tint, target);
  }
  if (forced.in.size) painter.frames(forced.in, css(painter.colours.forcedIn), 1);
  if (forced.out.size) painter.frames(forced.out, css(painter.colours.forcedOut), 1);
}

// Of a style what lies below; seen(token): how much of its part of the picture lies on that, 0 to 1; tint(token): what
// lies on both, [red, green, blue, alpha] of 255.
export function mapping(painter, style, chosen) {
  const { colours, data } = painter;
  const rank = new Int32Array(data.n).fill(-1), last = Math.max(chosen.order.length - 1, 1);
  chosen.order.forEach((token, i) => { rank[token] = i; });
  const kept = (token) => (rank[token] < 0 ? 0 : 1);
  const ramp = (value) => colours.ramp[Math.round(value * (colours.ramp.length - 1))];
  if (style === "heat") return { base: "grey", tint: (token) => [...ramp(data.scores?.[token] ?? 0.5), kept(token) ? 235 : 120] };
  if (style === "order") return { base: "dark", tint: (token) => [...ramp(1 - Math.max(rank[token], 0) / last), 204 * kept(token)] };
  if (style === "grid") return { base: "light", seen: kept };
  if (style === "merged" && chosen.into) {
    const found = painter.groups(chosen);
    const tint = (token) => (found.has(chosen.into[token]) ? [...found.get(chosen.into[token]), 128] : [0, 0, 0, 0]);
    return { base: "dark", seen: kept, tint };
  }
  if (!chosen.lives) return { base: "dark", seen: kept };
  const { lives, alive } = chosen;
  const depth = (token) => (lives[token] > 0 ? depthAlpha(colours, lives[token] / alive.length) : 0);
  return { base: "dark", seen: (token) => Math.max(kept(token), depth(token)) };
}
