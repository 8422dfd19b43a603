// What the canvas knows, without a pixel: the payload of the server, the sliders' values, and which tokens they keep.
// It must agree with the server to the token; tests compare the two over the whole grid.

// Base64 text -> typed array of the given kind.
export function decode(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Kind(bytes.buffer);
}

// Tokens kept of n: n · retention rounded half up, within 1..n (pruning.budget.keep_count).
export function keepCount(n, retention) {
  const exact = n * retention;
  return Math.min(n, Math.max(1, Math.floor(exact + 0.5 + 1e-9 * Math.max(1, exact))));
}

// λ of two weights, six decimals (pruning.weights.mmr_lambda); null where both are 0.
export function lambdaOf(importance, diversity) {
  const sum = importance + diversity;
  return sum > 0 ? Math.round((importance / sum) * 1e6) / 1e6 : null;
}

// The server's payload with its arrays unpacked.
export function unpack(payload) {
  const n = payload.n;
  const orders = payload.orders ? decode(payload.orders, Uint16Array) : []; // none where tokens leave between layers
  const rows = orders.length / n;
  return {
    ...payload,
    rects: decode(payload.rects, Float32Array), // n × (x0, y0, x1, y1), pixels of the shown image
    orders: Array.from({ length: rows }, (_, row) => orders.subarray(row * n, (row + 1) * n)),
    scores: payload.scores ? decode(payload.scores, Float32Array) : null, // n, from 0 to 1
    owner: payload.grids.flatMap((grid) => Array(grid.stop - grid.start).fill(grid)),
  };
}

// A selection that the server computed for one exact setting.
export function unpackExact(exact) {
  if (!exact || exact.problem) return exact ?? null; // why there is none
  return {
    ...exact,
    order: decode(exact.order, Uint16Array),
    nearest: decode(exact.nearest, Float32Array), // n: similarity to the nearest kept token, NaN where there is none
    into: exact.into ? decode(exact.into, Int32Array) : null, // n: the kept token that absorbed each, -1 = dropped
    lives: exact.lives ? decode(exact.lives, Uint16Array) : null, // n: layers that process each, where a plan drops them
    endurance: exact.endurance ? decode(exact.endurance, Uint16Array) : null, // n: those that live longest first
  };
}

// The row of `orders` that holds λ exactly, or the nearest one. Methods without λ have one row.
export function rowOf(data, lambda) {
  if (!data.lambdas || lambda === null) return { row: 0, exact: true };
  let best = 0;
  data.lambdas.forEach((value, i) => {
    if (Math.abs(value - lambda) < Math.abs(data.lambdas[best] - lambda)) best = i;
  });
  return { row: best, exact: Math.abs(data.lambdas[best] - lambda) < 5e-7 };
}

// What is kept at a setting: { order, k, into, nearest, lives, alive, exact }. `exact` is false while only the server
// knows better; `nearest` is there once the server was asked, and so are `lives` and `alive`, the tokens that each layer
// processes, where tokens leave between layers: what is kept is alive at the end then.
export function selectionAt(data, setting, exact) {
  const k = data.anew ? data.n : keepCount(data.n, setting.retention); // all of another encoding
  const asked = setting.scope ?? "sample";
  if (exact && exact.key === data.key && exact.scope === asked && Math.abs(exact.retention - setting.retention) < 1e-9 &&
      (exact.lambda === null || Math.abs(exact.lambda - setting.lambda) < 5e-7)) {
    const { order, into, nearest, lives, alive, endurance } = exact;
    return { order, k: order.length, into, nearest, lives, alive, endurance, exact: true };
  }
  if (data.staged) {
    const order = exact?.key === data.key && exact.endurance ? exact.endurance.subarray(0, k) : new Uint16Array(0);
    return { order, k: order.length, into: null, nearest: null, lives: null, alive: null, exact: false };
  }
  const { row, exact: onGrid } = rowOf(data, setting.lambda);
  return {
    order: data.orders[row].subarray(0, k), k, into: null, nearest: null, lives: null, alive: null,
    exact: onGrid && data.nested && asked === "sample",
  };
}

// The selection with tokens forced in and out, at the same budget: forced ones first, then the method's own picks, then
// those it would have taken next (pruning.overrides.with_overrides).
export function withOverrides(data, chosen, setting, forcedIn, forcedOut) {
  if (!forcedIn.size && !forcedOut.size) return chosen;
  const next = data.orders[rowOf(data, setting.lambda).row];
  const order = [...forcedIn];
  const taken = new Set([...forcedIn, ...forcedOut]);
  for (const list of [chosen.order, next]) {
    for (const token of list) {
      if (order.length >= chosen.k) break;
      if (!taken.has(token)) {
        taken.add(token);
        order.push(token);
      }
    }
  }
  return { order: Uint16Array.from(order), k: order.length, into: null, nearest: null, exact: chosen.exact };
}

// The tokens that layer `layer` of the language model processes, counted from 1, those that live longest
// first; 0 = all that the vision tower gave. lives: n, layers that process each.
export function seenBy({ endurance, lives }, layer) {
  return endurance.filter((token) => lives[token] >= layer);
}

// How far up each token comes that does not stay: [[layers that process it, share of all layers], …], lowest first.
export function depthsOf({ lives, alive }) {
  const layers = alive.length;
  return [...new Set(lives)].filter((count) => count > 0 && count < layers).sort((a, b) => a - b).map((count) => [count, count / layers]);
}

// The overlay style that is painted where this one is wished: those that show nothing of the method are off.
export const styleOf = ({ off }, wished) => (off[wished] ? "grid" : wished);

// Index of the token under a point of a shown image, the smallest where several lie there; -1 for none.
export function tokenAt(data, image, x, y) {
  let found = -1;
  let area = Infinity;
  for (let i = 0; i < data.n; i++) {
    if (data.owner[i].image !== image) continue;
    const x0 = data.rects[4 * i], y0 = data.rects[4 * i + 1], x1 = data.rects[4 * i + 2], y1 = data.rects[4 * i + 3];
    if (x >= x0 && x < x1 && y >= y0 && y < y1 && (x1 - x0) * (y1 - y0) < area) {
      found = i;
      area = (x1 - x0) * (y1 - y0);
    }
  }
  return found;
}

// Row, column and frame-less place of a token in its grid, from 0.
export function placeOf(data, token) {
  const grid = data.owner[token];
  const inside = (token - grid.start) % (grid.gh * grid.gw);
  return { grid, row: Math.floor(inside / grid.gw), column: inside % grid.gw };
}

// The tokens that were merged into one with this one, itself too; none where it is alone.
export function groupOf({ into }, token) {
  if (!into || token < 0 || into[token] < 0) return [];
  const group = [...into.keys()].filter((other) => into[other] === into[token]);
  return group.length > 1 ? group : [];
}

// The token reached from `token` by an arrow key; stays inside its grid, and PageUp / PageDown change the grid: in a clip
// they lead to the same place of the frame before and after.
export function neighbour(data, token, key) {
  const { grid, row, column } = placeOf(data, token);
  const at = (r, c) => grid.start + Math.min(Math.max(r, 0), grid.gh - 1) * grid.gw + Math.min(Math.max(c, 0), grid.gw - 1);
  const grids = data.grids;
  const index = grids.findIndex((g) => g.start === grid.start);
  const other = (by) => {
    const next = grids[Math.min(Math.max(index + by, 0), grids.length - 1)], clip = (g) => data.images[g.image].clip ?? null;
    return clip(grid) !== null && clip(grid) === clip(next) ? next.start + token - grid.start : next.start;
  };
  switch (key) {
    case "ArrowLeft": return at(row, column - 1);
    case "ArrowRight": return at(row, column + 1);
    case "ArrowUp": return at(row - 1, column);
    case "ArrowDown": return at(row + 1, column);
    case "Home": return at(row, 0);
    case "End": return at(row, grid.gw - 1);
    case "PageDown": return other(1);
    case "PageUp": return other(-1);
    default: return null;
  }
}
