"""A budget shared out over parts of the tokens (crops, tiles, pictures), exactly."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-9  # 0.1 * 30 and kin: a product that misses a whole number by rounding error alone still counts as it


def share_out(wanted: Tensor, capacity: Tensor, k: int) -> Tensor:
    """Whole numbers near `wanted` that sum to k, none above its capacity.

    wanted (C,) >= 0; capacity (C,) int64, its sum at least k. Where `wanted` sums to more than k it is scaled down.
    Rounded down and capped; what the caps cut off goes to the others in proportion to wanted times their room; the
    units still missing go one each to the highest wanted with room, in as many rounds as it takes.
    Returns (C,) int64 on the CPU. Raises ValueError when there is not room for k.
    """
    if int(capacity.sum()) < k:
        raise ValueError(f"{k} tokens cannot be shared out over parts that hold {capacity.tolist()}")
    wanted, limit = wanted.double().cpu().clamp(min=0), capacity.double().cpu()
    wanted = torch.where(wanted > ROUNDING, wanted, 0.0)  # what is next to nothing must not be divided by
    if wanted.sum() > k:
        wanted = wanted * (k / wanted.sum())
    whole = (wanted + ROUNDING).floor()
    quota = torch.minimum(whole, limit)
    surplus, pull = (whole - quota).sum(), wanted * (limit - quota)
    if surplus > 0 and pull.sum() > 0:
        quota += torch.minimum((surplus * pull / pull.sum() + ROUNDING).floor(), limit - quota)
    ranked = wanted.sort(descending=True, stable=True).indices
    while (missing := k - int(quota.sum())) > 0:
        quota[ranked[(quota < limit)[ranked]][:missing]] += 1
    return quota.long()


def topk_per_part(scores: Tensor, part: Tensor, quota: Tensor) -> Tensor:
    """The best of every part: scores (N,), part (N,) int64 in 0..C-1, quota (C,) int64 -> (sum of quota,) int64.

    In falling order of score over all parts; ties go to the lower index.
    """
    part, quota = part.to(scores.device), quota.to(scores.device)
    ranked = scores.sort(descending=True, stable=True).indices
    grouped = ranked[part[ranked].sort(stable=True).indices]  # part by part, each from best to worst
    first = part.bincount(minlength=len(quota)).cumsum(0).roll(1)
    first[0] = 0
    inside = torch.arange(len(part), device=scores.device) - first[part[grouped]]
    chosen = torch.zeros_like(part, dtype=torch.bool)
    chosen[grouped[inside < quota[part[grouped]]]] = True
    return ranked[chosen[ranked]]
