"""VisionSelector's objective (arXiv 2510.16598): a differentiable top-k, and the annealing that makes it binary.

Visual tokens are multiplied by a mask p of their scores, none is removed. Loss = cross entropy of the answers +
w · BCE(p, hard top-k mask), w rising linearly over training.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning import ops
from pruning.models import Scorer

KEPT: Final = 0.2
"""Share of the tokens that the soft mask adds up to (paper: fixed)."""
ANNEAL: Final = (0.1, 2.0)
"""Weight of the BCE term at the first and at the last step (paper, Qwen)."""


class SoftTopK(torch.autograd.Function):
    """`ops.soft_topk` with a gradient. Backward, of the implicit function t(s): with v = p (1 - p) and
    u = g v, it is u - v sum(u) / sum(v).
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: int) -> Tensor:  # (B, N) -> (B, N)
        p = ops.soft_topk(scores, k)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        v = p * (1 - p)
        u = grads[0] * v
        return u - v * u.sum(-1, keepdim=True) / v.sum(-1, keepdim=True).clamp(min=1e-12), None


def soft_top_k(scores: Tensor, k: int) -> Tensor:
    """(B, N) float32 scores -> (B, N) in (0, 1), each row adding up to k; differentiable."""
    result: Tensor = SoftTopK.apply(scores, k)
    return result


def binary_loss(p: Tensor, scores: Tensor, k: int) -> Tensor:
    """BCE between the soft mask (B, N) and the hard top-k of the scores: 0 where the two are one."""
    hard = torch.zeros_like(p).scatter_(1, scores.topk(k).indices, 1.0)
    return F.binary_cross_entropy(p.clamp(1e-6, 1 - 1e-6), hard)


def anneal(step: int, steps: int) -> float:
    """Weight of the BCE term."""
    return ANNEAL[0] + (ANNEAL[1] - ANNEAL[0]) * step / max(steps - 1, 1)


def new_scorer(width: int, generator: torch.Generator | None = None) -> Scorer:
    """Untrained: weights N(0, 1e-4), biases 0, hidden width half of the model's (paper)."""
    scorer = Scorer(width, width // 2)
    for weight in scorer.parameters():
        nn.init.normal_(weight, std=1e-4, generator=generator) if weight.ndim == 2 else nn.init.zeros_(weight)
    return scorer
