"""Greedy rules that read whole rows of the similarity, from the features: rows are made in blocks as they are needed.

For one setting of one sample. Entries are those of `scaling.cosine_similarity`: bit by bit where a product of matrices
sums every entry alike, as MKL's does, and but for the last bits elsewhere; then picks are the same wherever no two
scores are within 1e-6. On another device than the CPU the matrix is a moment's work, and is made; where there is no
room for it, the CPU selects.

    N  tokens    D  width of the features    K  picks
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning import ops
from pruning.budget import check_budget
from pruning.ops import checks, row_kernels
from pruning.ops.scaling import BLOCK, cosine_similarity, unit_rows
from pruning.ops.spilling import spilling

AHEAD = 64  # rows that are made together: the pick's, and of those that are likely to follow
HELD = 4 * AHEAD  # rows that wait for their pick, at most
FEW = 16
CLOSEST = 64  # closest others that a token remembers


@spilling
def least_similar(features: Tensor, k: int, first: int | Tensor) -> Tensor:
    """`ops.least_similar` by the cosine of the features (N, D) float32: (k,) int64 in pick order.

    Raises ValueError as `ops.least_similar`, and for features that are misshapen or not finite.

    >>> least_similar(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), 3, first=0).tolist()
    [0, 2, 1]
    """
    checks.check_features(features)
    check_budget(k, len(features))
    if features.device.type != "cpu":
        return ops.least_similar(cosine_similarity(features), k, first)
    unit, total = unit_rows(features.detach()), np.zeros(len(features))
    order, pick = np.empty(k, np.int64), int(first)
    known: dict[int, NDArray[np.float32]] = {}
    for step in range(k):
        order[step] = pick
        if pick not in known:
            new = _likely(pick, -total, known) if step else [pick]
            known.update(zip(new, _rows(unit, new), strict=True))
        row = known.pop(pick)
        _drop_unlikely(known, -total)
        pick = row_kernels.summed(total, row, pick)
    return torch.from_numpy(order)


@spilling
def dpp(quality: Tensor, features: Tensor, k: int) -> Tensor:
    """`ops.dpp` by the cosine of the features (N, D) float32: (k,) int64 in pick order.

    Holds the Cholesky factor, (k, N) float64, as that does. Raises ValueError as `ops.dpp`, and for features that are
    misshapen or not finite.

    >>> dpp(torch.tensor([1.0, 0.9, 0.8]), torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), 2).tolist()
    [0, 2]
    """
    checks.check_features(features)
    check_budget(k, len(features))
    checks.check_values("importance", quality, len(features))
    checks.check_not_negative("quality", quality)
    if features.device.type != "cpu":
        return ops.dpp(quality, cosine_similarity(features), k)
    unit, q = unit_rows(features.detach()), quality.detach().double().numpy()
    residual = _squares(unit).astype(np.float64)
    gain = q * q * residual
    factor, order = np.empty((k, len(q))), np.empty(k, np.int64)
    known: dict[int, tuple[int, NDArray[np.float64]]] = {}  # rows, and of how many picks they are projected out
    pick = int(gain.argmax()) if gain.any() else -1
    for step in range(k):
        if pick < 0:
            # Nothing gains any more, nor will: the rest follows by quality.
            rest = (-q[gain > -np.inf]).argsort(kind="stable")
            order[step:] = (gain > -np.inf).nonzero()[0][rest][: k - step]
            break
        order[step] = pick
        if pick not in known:
            new = _likely(pick, gain, known)
            rows = _rows(unit, new).astype(np.float64)
            row_kernels.project_out(rows, np.array(new), np.zeros(len(new), np.int64), step, factor)
            known.update(zip(new, ((step, row) for row in rows), strict=True))
        since, row = known.pop(pick)
        _drop_unlikely(known, gain)
        row_kernels.project_out(row[None], order[step : step + 1], np.array([since]), step, factor)
        pick = row_kernels.direction(row, pick, step, factor, residual, q, gain)
    return torch.from_numpy(order)


@spilling
def deduplicate(features: Tensor, ranking: Tensor, k: int, step: int = 8) -> Tensor:
    """`ops.deduplicate` by the cosine of the features (N, D) float32: (k,) int64 in the order of `ranking` (R,).

    All pairs are compared, a block of rows at a time, and each token remembers its closest others: the closest one at
    an odd place is the first of them that stands at one. They are looked for anew once half of the tokens are gone.
    Raises ValueError as `ops.deduplicate`, and for features that are misshapen or not finite.

    >>> deduplicate(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), torch.tensor([0, 1, 2]), 2).tolist()
    [1, 2]
    """
    checks.check_features(features)
    if features.device.type != "cpu":
        return ops.deduplicate(ranking, cosine_similarity(features), k, step)
    kept = ranking[_distinct(unit_rows(features.detach()[ranking]), k, step)] if k else ranking[:0]
    stays = torch.zeros(len(features), dtype=torch.bool)
    stays[kept] = True
    return ranking[stays[ranking]]


def _distinct(unit: Tensor, k: int, step: int) -> Tensor:
    """unit (R, D), rows of length 1 by rank -> (k,) int64, the places that are left."""
    places = torch.arange(len(unit))
    while len(places) > k:
        near, alike = _closest(unit)
        left = torch.arange(len(unit))
        while len(left) > max(k, len(unit) // 2):
            even, odd = left[::2], left[1::2]
            by_similarity = _closest_among(unit, even, odd, near, alike).argsort(descending=True, stable=True)
            left = torch.cat([even[by_similarity[min(step, len(left) - k) :]], odd])
        unit, places = unit[left], places[left]
    return places


def _closest(unit: Tensor) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(R, D) -> places (R, L) and similarities (R, L) of each one's closest others."""
    r = len(unit)
    shape = r, max(1, min(CLOSEST, r - 1))
    near, alike = np.zeros(shape, np.int32), np.full(shape, -np.inf, np.float32)
    least = alike[:, -1].copy()
    for start in range(0, r, BLOCK):
        rows = unit[start : start + BLOCK] @ unit[start:].T
        row_kernels.closest(rows.numpy(), start, near, alike, least)
    return near, alike


def _closest_among(
    unit: Tensor, asked: Tensor, pool: Tensor, near: NDArray[np.int32], alike: NDArray[np.float32]
) -> Tensor:
    """(E,) float32: of each place in `asked` the similarity of the closest one in the pool, of at least one."""
    among = np.zeros(len(unit), np.bool_)
    among[pool.numpy()] = True
    found = np.empty(len(asked), np.float32)
    row_kernels.closest_among(asked.numpy(), among, near, alike, found)
    similar = torch.from_numpy(found)
    unknown = torch.isinf(similar).nonzero()[:, 0]
    if len(unknown):
        similar[unknown] = (unit[asked[unknown]] @ unit[pool].T).amax(dim=1)
    return similar


def _rows(unit: Tensor, tokens: list[int]) -> NDArray[np.float32]:
    """(B, N): the similarities of some tokens to all."""
    # The bits of a product of many rows are those of the matrix; few rows are summed in another order.
    asked = tokens + tokens[:1] * (FEW - len(tokens))
    return (unit[asked] @ unit.T).numpy()[: len(tokens)]


def _squares(unit: Tensor) -> NDArray[np.float32]:
    """(N,): the similarity of each token to itself, 1 but for rounding, or 0; equal for equal tokens."""
    found = torch.empty(len(unit))
    for start in range(0, len(unit), BLOCK):
        own = slice(max(0, min(start, len(unit) - BLOCK)), start + BLOCK)  # the last one is as large as the others
        found[own] = (unit[own] @ unit[own].T).diagonal()
    return found.numpy()


def _likely(pick: int, scores: NDArray[np.float64], known: Container[int]) -> list[int]:
    """The pick, and the tokens of the highest scores that are unknown; -inf: never again."""
    best = (-scores).argpartition(min(AHEAD, len(scores) - 1))[:AHEAD].tolist()
    return [pick, *(one for one in best if one != pick and one not in known and scores[one] > -np.inf)]


def _drop_unlikely(known: dict[int, Any], scores: NDArray[np.float64]) -> None:
    if len(known) > HELD:
        for one in sorted(known, key=lambda one: -scores[one])[HELD:]:
            del known[one]
