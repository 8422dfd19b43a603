// What the canvas shows: the pictures as far as they are zoomed, marks on patches, words below. Knows no tool, no replay.

import { legend } from "./canvas-legend.js";
import { groupOf, styleOf, tokenAt } from "./canvas-model.js";
import { arrange, css, extent, Painter } from "./canvas-paint.js";
import { countWords, patchWords } from "./canvas-words.js";

const NOWHERE = "not on a grid: no patch of the picture is a token's own";

export class View {
  // `redraw` has `paint` called with the next frame.
  constructor(element, colours, redraw) {
    Object.assign(this, { element, colours, redraw });
    this.data = null;
    this.pictures = [];
    this.places = []; // of the pictures in the world, null for those that are not shown
    this.world = { width: 1, height: 1 };
    this.place = { zoom: 1, x: 0, y: 0 }; // of the world on the canvas
    this.fit = 1; // the zoom at which all of it is seen
    this.brushing = false; // a finger on the canvas brushes, and scrolls nothing
    this.forget();
  }

  get canvas() { return this.element.querySelector("canvas"); }
  get zoomed() { return this.place.zoom > this.fit; }

  part(name) { return this.element.querySelector(`[data-part="${name}"]`); }

  // No patch is marked: cursor, of the keyboard; hover, of the pointer; chosen, explained by a card.
  forget() { Object.assign(this, { cursor: -1, hover: -1, chosen: -1 }); }

  // shown: which of the pictures are seen.
  show(data, pictures, shown) {
    Object.assign(this, { data, pictures });
    this.arrange(shown);
    this.say("");
    this.resize();
  }

  // Other pictures are seen: where they are as large as those before, what was zoomed into stays where it is.
  look(shown) {
    const { width, height } = this.world;
    this.arrange(shown);
    if (this.world.width === width && this.world.height === height) this.redraw();
    else this.resize();
  }

  arrange(shown) {
    this.places = arrange(this.data.images, shown);
    this.world = extent(this.places);
  }

  // The tokens merged into one with that which is pointed at, else with that which is explained.
  merged(chosen) { return groupOf(chosen, this.hover >= 0 ? this.hover : this.chosen >= 0 ? this.chosen : this.cursor); }

  // setting: of `present`; chosen: of `selectionAt`; shown: the same, or as much of it as is to be seen.
  paint(setting, chosen, shown, forced) {
    const { data, colours } = this;
    const painter = this.painter();
    painter.paint(styleOf(data, setting.style), shown, forced);
    const merged = this.merged(chosen);
    if (merged.length) painter.frames(merged, "white", 1);
    const marks = [[this.chosen, "white", 2], [this.hover, "white", 1], [this.cursor, css(colours.forcedIn), 3]];
    for (const [token, colour, width] of marks) {
      if (token >= 0 && token < data.n) painter.frames([token], colour, width);
    }
    this.describe(setting, chosen, shown);
  }

  // The pictures alone, and why nothing is known of their patches.
  blank(problem) {
    this.painter().plain();
    this.part("count").textContent = problem;
    this.label(`${this.data.method.title}: ${problem}`);
    legend(this.element, "", null, this.colours);
    this.element.dataset.exact = "false";
    this.element.dataset.kept = "";
  }

  painter() {
    return new Painter(this.canvas.getContext("2d"), this.pictures, this.data, this.place, this.colours, this.places);
  }

  describe(setting, chosen, shown) {
    const text = countWords(this.data, chosen, setting.lambda);
    this.part("count").textContent = chosen.exact ? text : `${text} · preview until the slider rests`;
    this.label(`${this.data.method.title}: ${text}. Arrow keys move over the patches, Enter explains one.`);
    this.offer(setting.style);
    legend(this.element, styleOf(this.data, setting.style), shown, this.colours);
    this.element.dataset.exact = String(chosen.exact);
    this.element.dataset.kept = [...chosen.order].join(" ");
    this.element.dataset.shown = String(shown.order.length);
  }

  // Styles that show nothing of the method are off, and say why.
  offer(style) {
    for (const input of document.querySelectorAll("#style input")) {
      const why = this.data.off[input.value] ?? "";
      input.disabled = Boolean(why);
      input.closest("label").title = why;
    }
    if (this.data.placed === false) this.part("count").textContent += ` · ${NOWHERE}`;
    if (this.data.off[style]) this.part("count").textContent += ` · ${this.data.off[style]}`;
  }

  label(text) {
    if (this.canvas.getAttribute("aria-label") !== text) this.canvas.setAttribute("aria-label", text);
  }

  say(words) { this.part("tip").textContent = words; }

  tell(chosen, token) { this.say(token < 0 ? "" : patchWords(this.data, chosen, token)); }

  // Size, zoom, pan

  // Also the texts below change the size of the component: what was zoomed into stays where it is then.
  fitIn() {
    const { canvas } = this, ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas?.clientWidth, canvas?.clientHeight].map((side) => Math.round(side * ratio));
    if (canvas && (canvas.width !== width || canvas.height !== height)) this.resize();
  }

  resize() {
    const { canvas, world } = this;
    if (!this.data || !canvas || !canvas.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.style.aspectRatio = `${world.width} / ${world.height}`;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    this.fit = Math.min(canvas.width / world.width, canvas.height / world.height);
    this.whole();
  }

  whole() {
    const { canvas, world, fit: zoom } = this;
    this.place = { zoom, x: (canvas.width - world.width * zoom) / 2, y: (canvas.height - world.height * zoom) / 2 };
    this.takeFingers();
    this.redraw();
  }

  zoomAt(factor, x, y) {
    const most = Math.max(this.fit * 16, 2 * (window.devicePixelRatio || 1)); // a long strip is small at 16 times
    const zoom = Math.min(Math.max(this.place.zoom * factor, this.fit), most);
    const by = zoom / this.place.zoom;
    this.place = { zoom, x: x - (x - this.place.x) * by, y: y - (y - this.place.y) * by };
    if (zoom === this.fit) this.whole();
    this.takeFingers();
    this.redraw();
  }

  zoomBy(factor) { this.zoomAt(factor, this.canvas.width / 2, this.canvas.height / 2); }

  wheel(event) {
    if (!(event.ctrlKey || event.metaKey || this.zoomed)) return; // a plain wheel scrolls the page
    event.preventDefault();
    const bounds = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / bounds.width;
    this.zoomAt(Math.exp(-event.deltaY / 300), (event.clientX - bounds.left) * ratio, (event.clientY - bounds.top) * ratio);
  }

  pan(dx, dy) {
    const ratio = this.canvas.width / this.canvas.clientWidth;
    this.place.x += dx * ratio;
    this.place.y += dy * ratio;
    this.redraw();
  }

  // A finger scrolls the page over the canvas, except where it drags. Two fingers always zoom.
  takeFingers() {
    this.canvas.style.touchAction = this.brushing || this.zoomed ? "pinch-zoom" : "manipulation";
  }

  // Pointer place -> token
  under({ clientX, clientY }) {
    const { canvas, place, data, places } = this;
    const bounds = canvas.getBoundingClientRect();
    const px = ((clientX - bounds.left) / bounds.width) * canvas.width;
    const py = ((clientY - bounds.top) / bounds.height) * canvas.height;
    const x = (px - place.x) / place.zoom, y = (py - place.y) / place.zoom;
    const image = places.findIndex((p) => p && x >= p.x && x < p.x + p.width && y >= 0 && y < p.height);
    return image < 0 ? -1 : tokenAt(data, image, (x - places[image].x) / places[image].scale, y / places[image].scale);
  }
}
