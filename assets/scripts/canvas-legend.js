// The legend below a canvas: that of its style, with a key for each cut where patches leave between layers.

import { depthsOf } from "./canvas-model.js";
import { depthAlpha } from "./canvas-paint.js";

// element: what holds `legends` of canvas.html. shown: what is painted, of `selectionAt`.
export function legend(element, style, shown, colours) {
  const name = style === "dimmed" && shown.lives ? "depth" : style;
  for (const each of element.querySelectorAll("[data-legend]")) each.hidden = each.dataset.legend !== name;
  const keys = element.querySelector('[data-part="depths"]'), depths = name === "depth" ? depthsOf(shown) : [];
  if (keys.dataset.shown === String(depths)) return;
  keys.dataset.shown = String(depths);
  keys.replaceChildren(...depths.flatMap(([layer, share]) => {
    const key = document.createElement("i");
    key.className = "key depth";
    key.style.setProperty("--depth", depthAlpha(colours, share));
    return [key, String(layer)];
  }));
}
