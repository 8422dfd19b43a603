"""Compiled inner loops on numpy arrays, called by `ops` and `metrics` for CPU tensors.

Why compiled: one greedy pick over 1,296 tokens is about a microsecond of arithmetic, while each tensor call costs several.
Values are those of plain float32 code: no fast-math, no reassociation, every product and difference rounded by itself.
The loops release the GIL. Compiled code is cached on disk; `ops.warm_up` loads it before the first user waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

BLOCK = 64  # tokens whose best score is kept apart, so that finding the winner reads N / 64 numbers, not N


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        kernel: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder to cache in: a read-only installation without a home
        kernel = numba.njit(nogil=True)(function)
    return kernel


@compiled
def greedy_mmr(relevance, penalty, similarity, first, order):  # type: ignore[no-untyped-def]
    """Fill `order` (K,) with the picks argmax relevance_i - penalty * max_{s chosen} similarity_{s,i}; ties: lower i.

    relevance (N,) float32 is overwritten: -inf marks the chosen. first: index of the first pick.
    One pass over one row of `similarity` per pick: closeness, score and the best score of each block.
    """
    n = relevance.shape[0]
    blocks = (n + BLOCK - 1) // BLOCK
    closest = np.full(n, -np.inf, np.float32)
    score = np.empty(n, np.float32)
    best = np.empty(blocks, np.float32)
    pick = first
    order[0] = pick
    relevance[pick] = -np.inf
    for step in range(1, order.shape[0]):
        row = similarity[pick]
        for block in range(blocks):
            start = block * BLOCK
            stop = min(start + BLOCK, n)
            for i in range(start, stop):
                closest[i] = row[i] if row[i] > closest[i] else closest[i]
                score[i] = relevance[i] - penalty * closest[i]
            top = score[start]
            for i in range(start + 1, stop):
                top = score[i] if score[i] > top else top
            best[block] = top
        winner = 0
        for block in range(1, blocks):
            if best[block] > best[winner]:
                winner = block
        pick = winner * BLOCK
        while score[pick] != best[winner]:
            pick += 1
        order[step] = pick
        relevance[pick] = -np.inf


RESIDUAL_FLOOR = 1e-6  # a squared length below this is float32 noise of the similarity, not a direction of its own


@compiled
def greedy_dpp(quality, similarity, order):  # type: ignore[no-untyped-def]
    """Fill `order` (K,) with greedy DPP picks: argmax q_i^2 r_i; without gain the rest by q; ties: lower i.

    quality (N,) float64, similarity (N, N) float32. Row t of `factor` is the t-th row of the incremental Cholesky factor.
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
