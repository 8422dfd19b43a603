// What the canvas says of a selection and of one patch of it, without asking the server.

import { groupOf, placeOf, seenBy } from "./canvas-model.js";

const PICK_TICK = 50, LAYERS_TAKE = 4000, LAYER_TICK = 700; // milliseconds

// "33 of 129 tokens kept (26 %) · λ = 0.50"; where tokens leave between layers, "20 of 129 tokens alive at the end · 26 %
// in the mean of the layers"
export function countWords(data, chosen, lambda) {
  if (data.staged) return stagedWords(data, chosen);
  if (data.anew) return anewWords(data);
  const share = Math.round((100 * chosen.k) / data.n);
  const balance = !data.weighted ? "no λ" : lambda === null ? "both weights are 0" : `λ = ${lambda.toFixed(2)}`;
  return `${chosen.k.toLocaleString("en")} of ${data.n.toLocaleString("en")} tokens kept (${share} %) · ${balance}`;
}

// "30 tokens of another encoding in place of 129 (23 %)"
function anewWords({ n, full }) {
  const share = Math.round((100 * n) / full);
  return `${n.toLocaleString("en")} tokens of another encoding in place of ${full.toLocaleString("en")} (${share} %)`;
}

function stagedWords(data, { k, alive }) {
  const n = data.n.toLocaleString("en");
  if (!alive && !k) return `${n} tokens`;
  const mean = alive ? alive.reduce((sum, count) => sum + count, 0) / alive.length : k;
  const share = `${Math.round((100 * mean) / data.n)} % in the mean of the layers`;
  return alive ? `${k.toLocaleString("en")} of ${n} tokens alive at the end · ${share}` : `${n} tokens · ${share}`;
}

// What a replay goes through: { most, tick: milliseconds from one to the next, name, play, words(step) }; step null = at the end.
export function pickSteps(chosen) {
  return {
    most: chosen.k, tick: PICK_TICK, name: "Picks shown", play: "Replay: the picks one after the other",
    words: (step) => (step === null ? "all picks" : `pick ${step} of ${chosen.k}`),
  };
}

// Layer 0 is what the vision tower gave. Nothing to go through while only the server knows.
export function layerSteps(chosen) {
  const layers = chosen.alive?.length ?? 0;
  const seen = (layer) => seenBy(chosen, layer).length.toLocaleString("en");
  return {
    most: layers, tick: Math.min(LAYER_TICK, LAYERS_TAKE / Math.max(layers, 1)),
    name: "Layer shown: patches go out where they are dropped", play: "Replay: one layer after the other",
    words: (step) => {
      if (!layers) return "";
      const layer = step ?? layers;
      return layer ? `layer ${layer} of ${layers}: ${seen(layer)} alive` : `before the LLM: ${seen(0)}`;
    },
  };
}

// What becomes of a token that `count` of the layers process.
function fateWords(count, layers) {
  if (count === layers) return "stays to the last layer";
  return count ? `dropped after layer ${count}` : "dropped before the first layer";
}

// " of frame 3" of a clip; nothing of a picture.
function frameWords(data, token) {
  const { image } = data.owner[token], { clip } = data.images[image];
  return (clip ?? null) === null ? "" : ` of frame ${image - data.images.findIndex((other) => other.clip === clip) + 1}`;
}

// " · one of 7 merged patches, of frames 2 to 4"
function mergedWords(data, chosen, token) {
  const group = groupOf(chosen, token);
  if (!group.length) return "";
  const ends = [group[0], group.at(-1)].map((other) => frameWords(data, other).replace(" of frame ", ""));
  const frames = !ends[0] ? "" : ends[0] === ends[1] ? `, all of frame ${ends[0]}` : `, of frames ${ends[0]} to ${ends[1]}`;
  return ` · one of ${group.length} merged patches${frames}`;
}

// "patch (3, 2), tile · kept, pick 7 · importance above 81 % of the tokens · 0.61 similar to the nearest kept"
export function patchWords(data, chosen, token) {
  const rank = chosen.order.indexOf(token);
  const { grid, row, column } = placeOf(data, token);
  const where = { tile: ", tile", thumbnail: ", thumbnail", whole: "" }[grid.role] + frameWords(data, token);
  const scores = data.scores;
  const less = scores ? scores.reduce((sum, score) => sum + (score < scores[token]), 0) / data.n : null;
  const importance = less === null ? "" : ` · importance above ${Math.round(100 * less)} % of the tokens`;
  const near = chosen.nearest?.[token] ?? NaN;
  const similar = Number.isNaN(near) ? "" : ` · ${near.toFixed(2)} similar to the nearest kept`;
  if (data.anew) return `cell (${row + 1}, ${column + 1})${where} of another encoding`;
  const pick = rank < 0 ? " · dropped" : ` · kept, pick ${rank + 1}`;
  const fate = chosen.lives ? ` · ${fateWords(chosen.lives[token], chosen.alive.length)}` : data.staged ? "" : pick;
  const lies = data.placed === false ? `token ${token + 1}, on no grid` : `patch (${row + 1}, ${column + 1})`;
  return `${lies}${where}${fate}${mergedWords(data, chosen, token)}${importance}${similar}`;
}
