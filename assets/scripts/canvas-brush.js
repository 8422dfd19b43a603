// Patches that are forced in and out, without a pixel: what may be forced, and which way a stroke goes.

const STRIDE = 2; // pixels: hardly a patch is smaller

export class Forced {
  constructor(inside = [], outside = []) {
    this.in = new Set(inside);
    this.out = new Set(outside);
  }

  get size() { return this.in.size + this.out.size; }

  copy() { return new Forced(this.in, this.out); }

  // Tells one state from another.
  get text() { return JSON.stringify([[...this.in], [...this.out]]); }

  // Forces a token "in" or "out" of the k of n that are kept. Why it cannot be, and then nothing changes; else null.
  force(token, way, n, k) {
    if (way === "in" && !this.in.has(token) && this.in.size >= k) {
      return `the budget of ${k} tokens is forced already: release one, or keep more tokens`;
    }
    if (way === "out" && !this.out.has(token) && n - this.out.size <= k) {
      return `${k} tokens must stay: none of the others can be forced out`;
    }
    this[way === "in" ? "out" : "in"].delete(token);
    this[way].add(token);
    return null;
  }

  release(token) {
    this.in.delete(token);
    this.out.delete(token);
  }
}

// Points on the way from one to another, its end too: a quick hand, or a slow phone, moves by several patches at once.
export function stroke(from, to) {
  const dx = to.x - from.x, dy = to.y - from.y;
  const steps = Math.max(1, Math.ceil(Math.hypot(dx, dy) / STRIDE));
  return Array.from({ length: steps }, (_, i) => ({ x: from.x + (dx * (i + 1)) / steps, y: from.y + (dy * (i + 1)) / steps }));
}
