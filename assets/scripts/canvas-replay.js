// The replay: the picks one after the other, or the layers where patches are dropped between them; by hand or by itself.

const TICKS = 120; // that a whole replay takes at most

export class Replay {
  // steps() -> what there is to go through, of `pickSteps` or `layerSteps`; `redraw` shows it anew.
  constructor(part, steps, redraw) {
    Object.assign(this, { part, steps, redraw });
    this.step = null; // how far it is; null = at the end
    this.timer = 0;
  }

  forget() { this.step = null; }

  describe({ most, name, play, words }) {
    const slider = this.part("step"), button = this.part("play");
    slider.max = most;
    slider.disabled = button.disabled = most === 0;
    if (this.step === null) slider.value = most;
    const said = words(this.step);
    this.part("at").textContent = said;
    slider.setAttribute("aria-valuetext", said);
    slider.setAttribute("aria-label", name);
    slider.title = name;
    button.setAttribute("aria-label", play);
    button.title = play;
  }

  to(step) {
    this.step = step >= this.steps().most ? null : Math.max(step, 0);
    this.redraw();
  }

  play() {
    if (this.timer) { this.stop(); return; }
    const { most, tick } = this.steps();
    const stride = Math.max(1, Math.round(most / TICKS));
    if (this.step === null) this.to(0);
    this.part("play").textContent = "⏸";
    this.timer = setInterval(() => {
      const next = (this.step ?? most) + stride;
      this.part("step").value = Math.min(next, most);
      this.to(next);
      if (next >= most) this.stop();
    }, tick);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.part("play").textContent = "▶";
  }
}
