// Painting: a selection on the pictures, in one of the overlay styles. Knows pixels, not sliders or events.
// Colours, [red, green, blue] each, are those of the overlays that the server draws, which hands them over
// (`painting` in app/web/theme.py).

export const css = ([red, green, blue], alpha = 1) => `rgba(${red}, ${green}, ${blue}, ${alpha})`;

// The colour of a value from 0 to 1.
export function rampAt(colours, value, alpha) {
  const last = colours.length - 1;
  return css(colours[Math.round(Math.min(Math.max(value, 0), 1) * last)], alpha);
}

// Where each picture lies in the world: side by side at equal heights; null where it is not `shown`.
// [{ x, y, scale, width, height }]
export function arrange(images, shown = images.map(() => true)) {
  const height = Math.max(...images.filter((_, i) => shown[i]).map((image) => image.height));
  let x = 0;
  return images.map((image, i) => {
    if (!shown[i]) return null;
    const scale = height / image.height;
    const place = { x, y: 0, scale, width: image.width * scale, height };
    x += place.width + height * 0.02;
    return place;
  });
}

// Width and height of what lies at these places.
export function extent(places) {
  const there = places.filter(Boolean);
  return { width: Math.max(...there.map((p) => p.x + p.width)), height: Math.max(...there.map((p) => p.y + p.height)) };
}

// How much is seen of a patch that this share of the layers processes: the later it is dropped, the more.
export const depthAlpha = ({ seen: [first, last] }, share) => first + (last - first) * share;

// A grey, dark copy of a picture for what was pruned, and others for other styles: each is made once, when it is first
// painted.
export function variants(picture, { veil }) {
  const made = {};
  const copy = (filter) => (made[filter] ??= filtered(filter));
  const filtered = (filter) => {
    const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
    const context = canvas.getContext("2d");
    context.filter = filter;
    context.drawImage(picture, 0, 0);
    return canvas;
  };
  return {
    plain: picture,
    get dark() { return copy(`grayscale(1) brightness(${veil})`); },
    get light() { return copy("opacity(0.55)"); },
    get grey() { return copy("grayscale(1)"); },
  };
}

// Tokens as stretches of neighbours in a row: [[first, last]], in the order of the raster.
export function rowsOf({ rects, owner }, tokens) {
  const found = [];
  for (const token of Int32Array.from(tokens).sort()) {
    const before = found.at(-1), last = before?.[1];
    const beside = last === token - 1 && owner[last] === owner[token] && rects[4 * last + 1] === rects[4 * token + 1] &&
      Math.abs(rects[4 * last + 2] - rects[4 * token]) < 1e-3;
    if (beside) before[1] = token;
    else found.push([token, token]);
  }
  return found;
}

export class Painter {
  // pictures: [{plain, dark, light, grey}], data: see unpack(); view: {zoom, x, y} world -> canvas pixels; places: of the
  // pictures in the world, null for those that are not painted.
  constructor(context, pictures, data, view, colours, places = arrange(data.images)) {
    Object.assign(this, { context, pictures, data, view, colours, places });
  }

  // Those of the tokens whose picture is painted.
  here(tokens) { return [...tokens].filter((token) => this.shows(token)); }

  shows(token) { return this.places[this.data.owner[token].image] !== null; }

  // Where a token lies on the canvas, or the tokens from it to the last of its row: [x, y, width, height].
  box(token, last = token) {
    const place = this.places[this.data.owner[token].image];
    const { zoom, x, y } = this.view;
    const [x0, y0, , y1] = this.data.rects.subarray(4 * token, 4 * token + 4);
    const x1 = this.data.rects[4 * last + 2];
    const left = (place.x + x0 * place.scale) * zoom + x;
    const top = (place.y + y0 * place.scale) * zoom + y;
    return [left, top, (x1 - x0) * place.scale * zoom, (y1 - y0) * place.scale * zoom];
  }

  // A frame that shares the tokens of another one is seen as that: all of its tokens enter.
  backdrop(variant) {
    const { zoom, x, y } = this.view, { images } = this.data;
    this.places.forEach((place, i) => {
      if (!place) return;
      const target = [place.x * zoom + x, place.y * zoom + y, place.width * zoom, place.height * zoom];
      this.context.drawImage(this.pictures[i][(images[i].joins ?? null) === null ? variant : "plain"], ...target);
    });
  }

  cut(token, variant, last = token) {
    const [x0, y0, , y1] = this.data.rects.subarray(4 * token, 4 * token + 4);
    const x1 = this.data.rects[4 * last + 2];
    if (x1 - x0 < 1e-6 || y1 - y0 < 1e-6) return;
    const source = this.pictures[this.data.owner[token].image][variant];
    const image = this.data.images[this.data.owner[token].image];
    const fx = (source.naturalWidth ?? source.width) / image.width;
    const fy = (source.naturalHeight ?? source.height) / image.height;
    this.context.drawImage(source, x0 * fx, y0 * fy, (x1 - x0) * fx, (y1 - y0) * fy, ...this.box(token, last));
  }

  // Neighbours in a row at once: from some 3,500 pictures a frame on, the browser paints them before the frame has ended.
  cuts(tokens, variant) {
    for (const [first, last] of rowsOf(this.data, this.here(tokens))) this.cut(first, variant, last);
  }

  frames(tokens, colour, width) {
    const { context } = this;
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    for (const token of this.here(tokens)) {
      const [x, y, w, h] = this.box(token);
      context.rect(x + 0.5, y + 0.5, Math.max(w - 1, 0.5), Math.max(h - 1, 0.5));
    }
    context.stroke();
  }

  fill(token, colour) {
    this.context.fillStyle = colour;
    this.context.fillRect(...this.box(token));
  }

  // What is translucent lies over the picture alone, not over a patch below it: tiles lie on their thumbnail.
  clear(token, variant) {
    if (this.data.grids.some((grid) => grid.role === "thumbnail")) this.cut(token, variant);
  }

  tint(token, variant, colour) {
    this.clear(token, variant);
    this.fill(token, colour);
  }

  begin() {
    const { context } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    context.imageSmoothingEnabled = this.view.zoom < 3;
  }

  plain() {
    this.begin();
    this.backdrop("plain");
  }

  paint(style, chosen, forced) {
    const { context } = this;
    context.save();
    this.begin();
    ({ dimmed: this.dimmed, grid: this.grid, heat: this.heat, order: this.order, merged: this.merged }[style] ??
      this.dimmed).call(this, chosen);
    if (forced.in.size) this.frames(forced.in, css(this.colours.forcedIn), 3);
    if (forced.out.size) this.frames(forced.out, css(this.colours.forcedOut), 3);
    context.restore();
  }

  // The colour of every token that absorbed others.
  groups(chosen) {
    const size = new Uint16Array(this.data.n);
    for (const target of chosen.into) if (target >= 0) size[target] += 1;
    const grown = [...chosen.order].filter((token) => size[token] > 1);
    return new Map(grown.map((token, i) => [token, this.colours.groups[i % this.colours.groups.length]]));
  }

  dimmed(chosen) {
    this.backdrop("dark");
    if (chosen.lives) this.depth(chosen);
    this.cuts(chosen.order, "plain");
    this.frames(chosen.order, css(this.colours.kept), 1);
  }

  // Until which layer every patch lives that does not stay. What leaves last lies on top.
  depth({ lives, alive }) {
    const leaves = this.here(lives.keys()).filter((token) => lives[token] > 0 && lives[token] < alive.length);
    for (const token of leaves.sort((a, b) => lives[a] - lives[b])) {
      this.clear(token, "dark");
      this.context.globalAlpha = depthAlpha(this.colours, lives[token] / alive.length);
      this.cut(token, "plain");
      this.context.globalAlpha = 1;
    }
  }

  grid(chosen) {
    this.context.fillStyle = "white";
    this.context.fillRect(0, 0, 0, 0);
    this.backdrop("light");
    this.cuts(chosen.order, "plain");
    this.frames(Array(this.data.n).keys(), css(this.colours.pruned, 0.9), 1);
    this.frames(chosen.order, css(this.colours.seam), 3);
    this.frames(chosen.order, css(this.colours.kept), 1.5);
  }

  heat(chosen) {
    this.backdrop("grey");
    const { scores, n } = this.data;
    for (const i of this.here(Array(n).keys())) this.tint(i, "grey", rampAt(this.colours.ramp, scores ? scores[i] : 0.5, 0.68));
    this.frames(chosen.order, "white", 1.5);
  }

  order(chosen) {
    this.backdrop("dark");
    const last = Math.max(chosen.order.length - 1, 1);
    const painted = [...chosen.order].map((token, rank) => [token, rank]).filter(([token]) => this.shows(token));
    painted.forEach(([token, rank]) => this.tint(token, "dark", rampAt(this.colours.ramp, 1 - rank / last, 0.8)));
    this.frames(chosen.order, css(this.colours.seam), 1);
    this.context.textAlign = "center";
    this.context.textBaseline = "middle";
    painted.forEach(([token, rank]) => {
      const [x, y, w, h] = this.box(token);
      const text = String(rank + 1);
      const size = Math.min(h * 0.5, (w * 1.5) / text.length);
      if (size < 7) return; // too small to read: the colour still tells the rank
      this.context.font = `${size}px sans-serif`;
      this.context.fillStyle = rank / last < 0.55 ? css(this.colours.seam) : "white";
      this.context.fillText(text, x + w / 2, y + h / 2);
    });
  }

  // As drawn in pruning/drawing/merged.py, but for the numbers: only what absorbed something has a colour; smaller
  // patches lie on larger ones, and kept ones on all.
  merged(chosen) {
    if (!chosen.into) { this.dimmed(chosen); return; }
    this.backdrop("dark");
    const colours = this.groups(chosen);
    for (const token of this.here(this.largestFirst())) {
      const colour = colours.get(chosen.into[token]);
      this.cut(token, colour ? "grey" : "dark");
      if (!colour) continue;
      this.fill(token, css([100, 100, 100], 0.4)); // a lighter, flatter grey
      this.fill(token, css(colour, 0.5));
    }
    for (const token of this.here(chosen.order)) this.cut(token, "plain");
    this.frames([...chosen.order].filter((token) => !colours.has(token)), css(this.colours.kept), 1);
    for (const [token, colour] of colours) this.frames([token], css(colour), 2.5);
  }

  largestFirst() {
    const { rects, n } = this.data;
    const area = (i) => (rects[4 * i + 2] - rects[4 * i]) * (rects[4 * i + 3] - rects[4 * i + 1]);
    return [...Array(n).keys()].sort((a, b) => area(b) - area(a));
  }
}
