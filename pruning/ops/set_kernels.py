"""Compiled inner loops of the rules that value the kept set as a whole: its volume (DPP) and what it covers.

Same promises as `kernels`. What the chosen have used up of every token is carried from pick to pick.
"""

from __future__ import annotations

import numpy as np

from pruning.ops.kernels import LANES, compiled

RESIDUAL_FLOOR = 1e-6  # a squared length below this is float32 noise of the similarity, not a direction of its own


@compiled
def greedy_dpp(quality, similarity, order):  # type: ignore[no-untyped-def]
    """Fill `order` (K,) with greedy DPP picks: argmax q_i^2 r_i; without gain the rest by q; ties: lower i.

    quality (N,) float64, similarity (N, N) float32. Row t of `factor` is the t-th row of the incremental Cholesky
    factor.
    """
    n = quality.shape[0]
    k = order.shape[0]
    factor = np.zeros((k, n))
    row = np.empty(n)
    residual = np.empty(n)
    taken = np.zeros(n, np.bool_)
    for i in range(n):
        residual[i] = similarity[i, i]
    for step in range(k):
        pick, spare = -1, -1
        best = 0.0
        for i in range(n):
            if taken[i]:
                continue
            gain = quality[i] * quality[i] * residual[i]
            if residual[i] > RESIDUAL_FLOOR and gain > best:
                pick, best = i, gain
            if spare < 0 or quality[i] > quality[spare]:
                spare = i
        if pick < 0:
            pick = spare
        order[step] = pick
        taken[pick] = True
        if residual[pick] <= RESIDUAL_FLOOR:
            continue  # adds no direction: its row stays zero
        row[:] = similarity[pick]
        for t in range(step):
            weight = factor[t, pick]
            for i in range(n):
                row[i] -= weight * factor[t, i]
        scale = 1 / np.sqrt(residual[pick])
        for i in range(n):
            factor[step, i] = row[i] * scale
            residual[i] -= factor[step, i] * factor[step, i]


@compiled
def coverage_gain(row, covered, sums):  # type: ignore[no-untyped-def]
    """What `row` (R,) float32 adds to `covered` (R,) float32: the sum of max(row - covered, 0) in float64.

    sums (LANES,) float64 is scratch. Rounding keeps the order of numbers and the sum has a fixed order, so the result
    never grows while `covered` does: what lazy evaluation rests on holds for the computed values too.
    """
    n = row.shape[0]
    whole = n // LANES * LANES
    sums[:] = 0
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            more = row[start + lane] - covered[start + lane]
            sums[lane] += more if more > 0 else np.float32(0)
    for i in range(whole, n):
        more = row[i] - covered[i]
        sums[i - whole] += more if more > 0 else np.float32(0)
    return sums.sum()


@compiled
def greedy_coverage(cover, weight, order):  # type: ignore[no-untyped-def]
    """Fill `order` (K,) with the picks argmax weight_i * gain_i; where nothing gains, by gain alone; ties: lower i.

    cover (N, R) float32, weight (N,) float64 >= 0. Lazy: what a token was last found to be worth bounds what it is
    worth now (a covered set only grows), so only the token on top is looked at again, until the top one is up to date.
    """
    n, width = cover.shape
    covered = np.zeros(width, np.float32)
    sums = np.empty(LANES)
    alone = np.empty(n)
    for i in range(n):
        alone[i] = weight[i] * coverage_gain(cover[i], covered, sums)
    worth = alone.copy()
    seen = np.zeros(n, np.int64)  # the step at which `worth` was computed
    for step in range(order.shape[0]):
        pick = worth.argmax()
        while seen[pick] < step and worth[pick] > 0:
            worth[pick] = weight[pick] * coverage_gain(cover[pick], covered, sums)
            seen[pick] = step
            pick = worth.argmax()
        if worth[pick] <= 0:
            # Nothing gains any more. A worth of 0 stays 0, a chosen one is -inf.
            for i in range(n):
                worth[i] = -np.inf if worth[i] < 0 else alone[i]
            for late in range(step, order.shape[0]):
                order[late] = worth.argmax()
                worth[order[late]] = -np.inf
            return
        order[step] = pick
        worth[pick] = -np.inf
        row = cover[pick]
        for i in range(width):
            covered[i] = row[i] if row[i] > covered[i] else covered[i]
