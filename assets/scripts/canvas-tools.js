// The canvas's tools: Inspect asks for a patch's card, or moves a picture that is zoomed in; Force in and Force out brush
// patches. A drag is one pointer from where it went down until it is let go of; however it ends, the page and the server
// agree afterwards.

import { Forced, stroke } from "./canvas-brush.js";

const REST = 250; // milliseconds
const NEVER = "Patches can be forced only where the method chooses among them before the language model";

export class Tools {
  // budget() -> how many tokens are kept now; events: { choose(token), edit(forced) } for the server.
  constructor(view, budget, events) {
    Object.assign(this, { view, budget, events });
    this.tool = "inspect";
    this.forcing = true; // patches can be forced
    this.forced = new Forced();
    this.told = this.forced.text; // the forced patches that the server has heard of
    this.news = ""; // which of what other parts of the page forced was taken over last
    this.telling = 0;
    this.drag = null;
    window.addEventListener("blur", () => this.finish(true));
  }

  // Another picture or method: what the server says was forced under it, { in, out }; nothing where it says nothing.
  startWith(forced) {
    this.drag = null;
    this.forced = new Forced(forced?.in, forced?.out);
    this.told = this.forced.text;
    this.news = forced?.news ?? "";
  }

  // The same picture and method: what another part of the page forced, once.
  hear(forced) {
    if (forced?.news && forced.news !== this.news) this.startWith(forced);
  }

  // Whether patches can be forced under the method that is shown.
  allow(forcing) {
    this.forcing = forcing;
    for (const button of this.view.element.querySelectorAll('[data-tool="in"], [data-tool="out"]')) {
      button.dataset.title ??= button.title;
      button.disabled = !forcing;
      button.title = forcing ? button.dataset.title : NEVER;
    }
    if (!forcing) this.set("inspect");
  }

  describe() { this.view.part("clear").disabled = !this.forced.size; }

  set(tool) {
    this.tool = tool;
    for (const button of this.view.element.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
    this.view.brushing = tool !== "inspect";
    this.view.takeFingers();
  }

  choose(token) {
    this.view.chosen = this.view.cursor = token;
    this.events.choose(token);
    this.view.redraw();
  }

  force(token, way) {
    const problem = this.forced.force(token, way, this.view.data.n, this.budget());
    if (problem) this.view.say(problem);
    else this.view.redraw();
  }

  release(token) {
    this.forced.release(token);
    this.view.redraw();
  }

  clear() {
    this.forced = new Forced();
    this.tellForced();
    this.view.redraw();
  }

  // Told once the hand rests: of events in quick succession the server would hear of the first and see the last.
  tellForced() {
    clearTimeout(this.telling);
    this.telling = setTimeout(() => {
      if (this.drag) return; // a stroke is told whole, by its end
      this.told = this.forced.text;
      this.events.edit(this.forced);
    }, REST);
  }

  // A key on the patch that the keyboard stands on. Whether it means anything.
  key(key, token) {
    const marks = { i: () => this.force(token, "in"), o: () => this.force(token, "out"), Delete: () => this.release(token) };
    if (key === "Enter" || key === " ") this.choose(token);
    else if (marks[key] && !this.forcing) this.view.say(NEVER);
    else if (marks[key]) { marks[key](); this.tellForced(); }
    else return false;
    return true;
  }

  use(token, first) {
    if (token < 0) return;
    if (this.tool === "inspect") { if (first) this.choose(token); return; }
    if (first) this.drag.releases = this.forced[this.tool].has(token); // a second touch takes the mark off again
    if (this.drag?.releases) this.release(token); else this.force(token, this.tool);
  }

  // Dragging

  begin(event) {
    this.finish(true);
    const { clientX: x, clientY: y, pointerId: id } = event;
    this.drag = { id, x, y, moved: false, releases: false, before: this.forced.copy() };
    this.view.canvas.setPointerCapture(id);
    if (this.tool !== "inspect") this.use(this.view.under(event), true);
  }

  brush({ clientX: x, clientY: y }) {
    for (const at of stroke(this.drag, { x, y })) this.use(this.view.under({ clientX: at.x, clientY: at.y }), false);
    Object.assign(this.drag, { x, y });
  }

  pan({ clientX: x, clientY: y }) {
    const { drag } = this;
    const dx = x - drag.x, dy = y - drag.y;
    if (Math.hypot(dx, dy) > 4) drag.moved = true;
    if (!drag.moved || !this.view.zoomed) return;
    this.view.pan(dx, dy);
    Object.assign(drag, { x, y });
  }

  // stands: false where the browser took the finger away, to scroll or to zoom the page: then there was no stroke.
  finish(stands) {
    const { drag } = this;
    if (!drag) return;
    this.drag = null;
    if (this.tool === "inspect") return;
    if (!stands) { this.forced = drag.before; this.view.redraw(); }
    if (stands || this.forced.text !== this.told) this.tellForced();
  }

  // Whether an event belongs to the drag: a second finger is no part of it.
  drags(event) { return this.drag !== null && this.drag.id === event.pointerId; }

  move(event) {
    if (!(event.buttons & 1)) { this.finish(true); return; } // let go of where the page could not hear it
    if (this.tool === "inspect") { this.pan(event); return; }
    const moves = event.getCoalescedEvents?.() ?? []; // none where the page is not secure
    for (const move of moves.length ? moves : [event]) this.brush(move);
  }

  listen(canvas) {
    canvas.addEventListener("pointerdown", (event) => {
      if (this.view.data && event.isPrimary && event.button === 0) this.begin(event);
    });
    canvas.addEventListener("pointermove", (event) => { if (this.drags(event)) this.move(event); });
    canvas.addEventListener("pointerup", (event) => {
      if (!this.drags(event)) return;
      if (this.tool === "inspect" && !this.drag.moved) this.use(this.view.under(event), true);
      this.finish(true);
    });
    canvas.addEventListener("pointercancel", (event) => { if (this.drags(event)) this.finish(false); });
    canvas.addEventListener("lostpointercapture", (event) => { if (this.drags(event)) this.finish(true); });
  }
}
