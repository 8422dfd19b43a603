"""The greedy loops in plain tensor operations, for accelerators: no pick ever travels to the host.

Each step costs a handful of launches, all steps of MMR one where a kernel can be compiled (`persistent`). Same
arithmetic, rounding and ties as `kernels`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.ops import persistent

RESIDUAL_FLOOR = 1e-6  # as in `set_kernels`


def greedy_mmr(relevance: Tensor, penalty: Tensor, similarity: Tensor, first: Tensor, k: int) -> Tensor:
    """relevance (L, N), overwritten; penalty (L, 1) or (L, N); similarity (N, N); first () -> (L, k) int64 picks."""
    if persistent.serves(relevance):
        try:
            return persistent.greedy_mmr(relevance, penalty, similarity, first, k)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler finds wrong with a GPU
            persistent.refused(relevance.device, error)
    lanes, n = relevance.shape
    order = torch.empty(lanes, k, dtype=torch.int64, device=relevance.device)
    closest = torch.full((lanes, n), -torch.inf, device=relevance.device)
    pick = first.expand(lanes)
    for step in range(k):
        if step:
            # Two roundings, product and difference, as on the CPU: a fused multiply-add would move near ties.
            pick = (relevance - penalty * closest).argmax(dim=1)
        order[:, step] = pick
        relevance.scatter_(1, pick[:, None], -torch.inf)
        torch.maximum(closest, similarity[pick], out=closest)
    return order


def greedy_dpp(quality: Tensor, similarity: Tensor, k: int) -> Tensor:
    """quality (N,), similarity (N, N) -> (k,) int64 picks; float64 where the device has it."""
    dtype = torch.float32 if quality.device.type == "mps" else torch.float64
    quality = quality.to(dtype)
    residual = similarity.diagonal().to(dtype).clone()
    factor = torch.zeros(k, len(quality), dtype=dtype, device=quality.device)
    order = torch.empty(k, dtype=torch.int64, device=quality.device)
    gains = quality**2
    spare = quality / (quality.max() + 1) - 2  # below every gain, still by quality
    chosen = torch.zeros_like(quality)
    for step in range(k):
        gain = gains * residual
        usable = (residual > RESIDUAL_FLOOR) & (gain > 0)
        pick = (torch.where(usable, gain, spare) + chosen).argmax().view(1)
        order[step : step + 1] = pick
        left = residual[pick]
        row = (
            (similarity[pick][0] - factor[:, pick].T[0] @ factor)
            * (left > RESIDUAL_FLOOR)
            / left.clamp(min=RESIDUAL_FLOOR).sqrt()
        )
        factor[step] = row
        residual = residual - row**2
        chosen[pick] = -torch.inf
    return order


def greedy_coverage(cover: Tensor, weight: Tensor, k: int) -> Tensor:
    """cover (N, R), weight (N,) -> (k,) int64 picks; sums in float64 where the device has it.

    Every gain anew at each step: on an accelerator that is one pass over `cover`, and nothing is decided on the host.
    """
    dtype = torch.float32 if cover.device.type == "mps" else torch.float64
    order = torch.empty(k, dtype=torch.int64, device=cover.device)
    covered = torch.zeros_like(cover[:1])
    chosen = torch.zeros_like(weight, dtype=dtype)
    alone = chosen
    for step in range(k):
        worth = (cover - covered).clamp_(min=0).sum(dim=1, dtype=dtype) * weight
        if step == 0:
            alone = worth
        gains = ((worth > 0) & (chosen == 0)).any()
        pick = (torch.where(gains, worth, alone) + chosen).argmax().view(1)
        order[step : step + 1] = pick
        chosen[pick] = -torch.inf
        torch.maximum(covered, cover[pick], out=covered)
    return order


def greedy_least_similar(similarity: Tensor, first: Tensor, k: int) -> Tensor:
    """similarity (N, N), first () -> (k,) int64 picks; sums in float64 where the device has it."""
    dtype = torch.float32 if similarity.device.type == "mps" else torch.float64
    total = torch.zeros(len(similarity), dtype=dtype, device=similarity.device)
    order = torch.empty(k, dtype=torch.int64, device=similarity.device)
    pick = first.view(1)
    for step in range(k):
        if step:
            pick = total.argmin().view(1)
        order[step : step + 1] = pick
        total += similarity[pick][0]
        total[pick] = torch.inf
    return order


def thin_out(ranked: Tensor, similarity: Tensor, reach: Tensor, k: int) -> Tensor:
    """ranked (N,), similarity (N, N), reach (N,) -> (k,) int64 picks."""
    n = len(ranked)
    # Whole numbers, all different: the better rank is higher, the struck lie n below, the taken below those.
    standing = torch.arange(n, 0, -1, dtype=torch.float32, device=ranked.device)
    struck = torch.zeros(n, dtype=torch.bool, device=ranked.device)
    order = torch.empty(k, dtype=torch.int64, device=ranked.device)
    for step in range(k):
        place = (standing - n * struck).argmax().view(1)
        token = ranked[place]
        order[step : step + 1] = token
        # What is taken after the walk has ended was struck out itself, and all others are: it changes nothing.
        struck |= (1 - similarity[token][0, ranked]) < reach[place]
        standing[place] = -torch.inf
    return order
