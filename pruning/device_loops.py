"""The greedy loops in plain tensor operations, for accelerators: no pick ever travels to the host.

Each step costs a handful of launches. Same arithmetic, rounding and ties as `kernels`.
"""

from __future__ import annotations

import torch
from torch import Tensor

RESIDUAL_FLOOR = 1e-6  # as in `kernels`


def greedy_mmr(relevance: Tensor, penalty: Tensor, similarity: Tensor, first: Tensor, k: int) -> Tensor:
    """relevance (L, N), which is overwritten, penalty (L, 1), similarity (N, N), first () -> (L, k) int64 picks."""
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
