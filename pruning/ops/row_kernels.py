"""Compiled loops of `ops.rows` on numpy arrays.

N  tokens    K  picks    R  tokens that are ranked    L  places of a token's list of closest ones
"""

from __future__ import annotations

import numpy as np

from pruning.ops.kernels import compiled
from pruning.ops.set_kernels import RESIDUAL_FLOOR

CHUNK = 512  # columns at a time: those of a few dozen rows stay in the cache


@compiled
def summed(total, row, pick):  # type: ignore[no-untyped-def]
    """Add a pick's row of similarities (N,) float32 to `total` (N,) float64: the lowest that is no pick; ties: lower i.

    What is picked is inf in `total`.
    """
    least, lowest = np.inf, 0
    total[pick] = np.inf
    for i in range(total.shape[0]):
        total[i] += row[i]
        if total[i] < least:
            least, lowest = total[i], i
    return lowest


@compiled
def project_out(rows, tokens, since, step, factor):  # type: ignore[no-untyped-def]
    """Take what lies along the first `step` picks out of rows (B, N) float64 of as many tokens (B,) int64.

    since (B,) int64: of how many picks it is out already; factor (K, N) float64 as in `set_kernels.greedy_dpp`, whose
    products and differences these are, in its order.
    """
    n = factor.shape[1]
    for start in range(0, n, CHUNK):
        stop = min(start + CHUNK, n)
        for t in range(since.min(), step):
            along = factor[t, start:stop]
            for b in range(rows.shape[0]):
                if t >= since[b]:
                    row, weight = rows[b, start:stop], factor[t, tokens[b]]
                    for i in range(stop - start):
                        row[i] -= weight * along[i]


@compiled
def direction(row, pick, step, factor, residual, quality, gain):  # type: ignore[no-untyped-def]
    """Make the pick's row, projected out, the next of `factor`: then the token of the highest gain, -1 if none gains.

    residual (N,) float64; quality (N,) float64; gain (N,) float64 is -inf for what is picked. Ties: lower i.
    """
    scale = 1 / np.sqrt(residual[pick])
    gain[pick] = -np.inf
    best, most = -1, 0.0
    for i in range(row.shape[0]):
        factor[step, i] = row[i] * scale
        residual[i] -= factor[step, i] * factor[step, i]
        if gain[i] > -np.inf:
            gain[i] = quality[i] * quality[i] * residual[i] if residual[i] > RESIDUAL_FLOOR else 0.0
            if gain[i] > most:
                best, most = i, gain[i]
    return best


@compiled
def remember(near, alike, i, j, value):  # type: ignore[no-untyped-def]
    """Enter place j with its similarity in the list of place i, which is full and sorted."""
    at = near.shape[1] - 1
    while at and alike[i, at - 1] < value:
        near[i, at], alike[i, at] = near[i, at - 1], alike[i, at - 1]
        at -= 1
    near[i, at], alike[i, at] = j, value


@compiled
def closest(rows, start, near, alike, least):  # type: ignore[no-untyped-def]
    """Enter rows (B, R - start) float32 of similarities in both tokens' lists: those of the places from `start` on.

    near (R, L) int32, alike (R, L) float32: each place's closest others and how close, the closest first. least (R,):
    the last of `alike`, side by side as they are read.
    """
    last = near.shape[1] - 1
    for b in range(rows.shape[0]):
        i = start + b
        for j in range(i + 1, start + rows.shape[1]):
            value = rows[b, j - start]
            if value > least[i]:
                remember(near, alike, i, j, value)
                least[i] = alike[i, last]
            if value > least[j]:
                remember(near, alike, j, i, value)
                least[j] = alike[j, last]


@compiled
def closest_among(asked, pool, near, alike, found):  # type: ignore[no-untyped-def]
    """Fill `found` (E,) float32 with the similarity of the closest place of the pool, inf where no list has one.

    asked (E,) int64, places; pool (R,) bool; near and alike as of `closest`.
    """
    for e in range(asked.shape[0]):
        found[e] = np.inf
        for at in range(near.shape[1]):
            if pool[near[asked[e], at]]:
                found[e] = alike[asked[e], at]
                break
