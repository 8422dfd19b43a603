// The replay: the picks one after the other, by hand or by itself.

const TICK = 50; // milliseconds
const TICKS = 120; // that a whole replay takes at most

export class Replay {
  // kept() -> how many tokens are kept now; `redraw` shows the picks anew.
  constructor(part, kept, redraw) {
    Object.assign(this, { part, kept, redraw });
    this.step = null; // picks that are shown; null = all
    this.timer = 0;
  }

  shown(order) { return this.step === null ? order : order.slice(0, this.step); }

  forget() { this.step = null; }

  describe(k) {
    const slider = this.part("step");
    slider.max = k;
    if (this.step === null) slider.value = k;
    this.part("at").textContent = this.step === null ? "all picks" : `pick ${this.step} of ${k}`;
  }

  to(step) {
    this.step = step >= this.kept() ? null : Math.max(step, 0);
    this.redraw();
  }

  play() {
    if (this.timer) { this.stop(); return; }
    const k = this.kept();
    const stride = Math.max(1, Math.round(k / TICKS));
    if (this.step === null) this.step = 0;
    this.part("play").textContent = "⏸";
    this.timer = setInterval(() => {
      const next = (this.step ?? k) + stride;
      this.part("step").value = Math.min(next, k);
      this.to(next);
      if (next >= k) this.stop();
    }, TICK);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.part("play").textContent = "▶";
  }
}
