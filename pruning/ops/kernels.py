"""Compiled inner loops on numpy arrays, called by `ops` and `metrics` for CPU tensors: those that compare tokens in
pairs. Rules that value the kept set as a whole are in `set_kernels`.

Why compiled: one greedy pick over 1,296 tokens is about a microsecond of arithmetic, while each tensor call costs
several. Values are those of plain float32 code: no fast-math, no reassociation, every product and difference rounded
by itself. The loops release the GIL. Compiled code is cached on disk; `ops.warm_up` loads it before the first user
waits for it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

# Running maxima kept side by side. Each lane is compared on its own, so the loop becomes vector code without
# reordering any arithmetic; a single running maximum would not.
LANES = 64


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return _compile(function, frozenset())


def compiled_in_any_order(function: Callable[..., Any]) -> Callable[..., Any]:
    """`compiled`, with sums of floats taken in the order that is quickest: for float64 sums that are rounded after."""
    return _compile(function, frozenset({"reassoc", "contract", "nsz"}))


def _compile(function: Callable[..., Any], freedom: frozenset[str]) -> Callable[..., Any]:
    kernel: Callable[..., Any] = numba.njit(nogil=True, fastmath=set(freedom) or False)(function)
    try:
        kernel.enable_caching()  # type: ignore[attr-defined]
    except RuntimeError:  # no folder to cache in: a read-only installation without a home
        if folder := _own_folder(Path(tempfile.gettempdir())):
            numba.config.CACHE_DIR = str(folder)
            kernel.enable_caching()  # type: ignore[attr-defined]
    return kernel


def _own_folder(among: Path) -> Path | None:
    """A folder for compiled code among temporary files, None where there can be none: what lies there is run, so nobody
    else may write to it.
    """
    if not hasattr(os, "getuid"):  # Windows, where there always is one of the user's
        return None
    folder = among / f"idpruner-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077
    return folder if own else None


@compiled
def greedy_mmr(relevance, penalty, similarity, first, order):  # type: ignore[no-untyped-def]
    """Fill `order` (K,) with the picks argmax relevance_i - penalty_i * max_{s chosen} similarity_{s,i}; ties: lower i.

    relevance (N,) float32 is overwritten: -inf marks the chosen. penalty (N,) float32. first: index of the first pick.
    One pass over one row of `similarity` per pick: closeness, score and arg max together.
    """
    n = relevance.shape[0]
    whole = n // LANES * LANES
    closest = np.full(n, -np.inf, np.float32)
    best = np.empty(LANES, np.float32)
    block = np.empty(LANES, np.int32)  # where the best of each lane lies
    pick = first
    order[0] = pick
    relevance[pick] = -np.inf
    for step in range(1, order.shape[0]):
        row = similarity[pick]
        best[:] = -np.inf
        block[:] = 0
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                i = start + lane
                near = row[i] if row[i] > closest[i] else closest[i]
                closest[i] = near
                score = relevance[i] - penalty[i] * near
                better = score > best[lane]
                best[lane] = score if better else best[lane]
                block[lane] = start if better else block[lane]
        pick = 0
        top = np.float32(-np.inf)
        if whole:
            for lane in range(LANES):
                i = block[lane] + lane
                if best[lane] > top or (best[lane] == top and i < pick):
                    top = best[lane]
                    pick = i
        for i in range(whole, n):
            closest[i] = row[i] if row[i] > closest[i] else closest[i]
            score = relevance[i] - penalty[i] * closest[i]
            if score > top:
                top = score
                pick = i
        order[step] = pick
        relevance[pick] = -np.inf


@compiled
def most_isolated(similarity):  # type: ignore[no-untyped-def]
    """The token whose nearest other token is least similar to it; ties: lower i. similarity (N, N) float32."""
    n = similarity.shape[0]
    whole = n // LANES * LANES
    nearest = np.empty(LANES, np.float32)
    isolated = 0
    least = np.float32(np.inf)
    for i in range(n):
        row = similarity[i]
        nearest[:] = -np.inf
        # The token itself is no neighbour: its block is read apart from the others.
        own = i // LANES * LANES
        for start in range(0, whole, LANES):
            if start == own:
                continue
            for lane in range(LANES):
                value = row[start + lane]
                nearest[lane] = value if value > nearest[lane] else nearest[lane]
        closest = np.float32(-np.inf)
        for lane in range(LANES):
            closest = nearest[lane] if nearest[lane] > closest else closest
        for j in range(own, min(own + LANES, n)):
            closest = row[j] if j != i and row[j] > closest else closest
        for j in range(whole, n):
            closest = row[j] if j != i and row[j] > closest else closest
        if closest < least:
            least = closest
            isolated = i
    return isolated


@compiled
def nearest_of(similarity, rows, nearest):  # type: ignore[no-untyped-def]
    """Fill `nearest` (N,) float32 with the largest value of each column over some rows of similarity (N, N) float32."""
    nearest[:] = -np.inf
    for t in range(rows.shape[0]):
        row = similarity[rows[t]]
        for i in range(nearest.shape[0]):
            nearest[i] = row[i] if row[i] > nearest[i] else nearest[i]


@compiled
def greedy_least_similar(similarity, first, order):  # type: ignore[no-untyped-def]
    """Fill `order` (K,) with picks argmin over i not chosen of sum_{s chosen} similarity_{s,i}; ties: lower i."""
    n = similarity.shape[0]
    total = np.zeros(n)
    pick = first
    order[0] = pick
    total[pick] = np.inf
    for step in range(1, order.shape[0]):
        row = similarity[pick]
        least = np.inf
        pick = -1
        for i in range(n):
            total[i] += row[i]
            if total[i] < least:
                least = total[i]
                pick = i
        order[step] = pick
        total[pick] = np.inf


@compiled
def thin_out(ranked, similarity, reach, order):  # type: ignore[no-untyped-def]
    """Fill `order` (K,) with the walk of `ops.thin_out`."""
    n = ranked.shape[0]
    k = order.shape[0]
    struck = np.zeros(n, np.bool_)
    taken = np.zeros(n, np.bool_)
    count = 0
    for place in range(n):
        token = ranked[place]
        if count == k or struck[token]:
            continue
        order[count] = token
        count += 1
        taken[token] = True
        row = similarity[token]
        limit = reach[place]
        for i in range(n):
            struck[i] |= np.float32(1) - row[i] < limit
    for place in range(n):
        if count < k and not taken[ranked[place]]:
            order[count] = ranked[place]
            count += 1


@compiled
def hopkins_prefixes(similarity, order, budgets, drawn, out):  # type: ignore[no-untyped-def]
    """Fill `out` (B,) float64 with the Hopkins statistic of each prefix of `order`; `budgets` (B,) ascending.

    similarity (N, N) float32; drawn (N,) a permutation whose first K entries are R for a prefix of K tokens.
    """
    n = similarity.shape[0]
    nearest = np.full(n, -np.inf, np.float32)  # similarity to the closest chosen token other than itself
    chosen = np.zeros(n, np.bool_)
    done = 0
    for b in range(budgets.shape[0]):
        k = budgets[b]
        for step in range(done, k):
            pick = order[step]
            row = similarity[pick]
            own = nearest[pick]
            for i in range(n):
                nearest[i] = row[i] if row[i] > nearest[i] else nearest[i]
            nearest[pick] = own
            chosen[pick] = True
        done = k
        between, within = 0.0, 0.0
        for i in range(k):
            if not chosen[drawn[i]]:  # a chosen one lies at distance 0 from the chosen
                between += max(0.0, 1.0 - nearest[drawn[i]])
            within += max(0.0, 1.0 - nearest[order[i]])
        total = between + within
        out[b] = between / total if k > 1 and total > 0 else np.nan
