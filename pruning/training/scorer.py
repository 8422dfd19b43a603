"""The importance scorer: VisionSelector's objective (arXiv 2510.16598) on the frozen shipped model.

Visual tokens are multiplied by a differentiable top-k mask p of their scores, none is removed. Loss = cross entropy of
the answers + w * BCE(p, hard top-k mask), w rising linearly over training: the annealing that makes p binary.

Differs from the paper: the learning rate (theirs is for models a thousand times as wide), and data: scenes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning import ops
from pruning.models import Scorer
from pruning.training import loop
from pruning.training.language import (
    CACHED,
    PER_PICTURE,
    ROUND,
    answer,
    answer_loss,
    ask_all,
    by_family,
    encode_pictures,
    pick_group,
    trained,
)

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


def anneal(step: int, steps: int) -> float:
    """Weight of the BCE term."""
    return ANNEAL[0] + (ANNEAL[1] - ANNEAL[0]) * step / max(steps - 1, 1)


def train(folder: Path, steps: int, device: torch.device, rate: float = 1e-3) -> None:
    """Train the scorer for `steps` steps on the model in `folder`; resumes from scorer.pt."""
    model = trained(folder).to(device).requires_grad_(False)
    width = model.config.text_config.hidden_size
    scorer = Scorer(width, width // 2).to(device)
    for weight in scorer.parameters():
        nn.init.normal_(weight, std=1e-4) if weight.ndim == 2 else nn.init.zeros_(weight)
    # at an initialisation this small both factors' gradients vanish at a small rate; Adam's step size does not
    opts: list[torch.optim.Optimizer] = [torch.optim.AdamW(scorer.parameters(), lr=rate, weight_decay=0.0)]
    file = folder / "scorer.pt"
    start = loop.restore(file, {"scorer": scorer}, opts)
    progress = loop.Progress("scorer", start, steps)
    pictures: list[Any] = []
    for step in range(start, steps):
        if step % ROUND == 0 or not pictures:
            pictures = encode_pictures(model.model.visual, 700_000_000 + step // ROUND * 100_000, CACHED, device)
        rng = np.random.default_rng([4, step])
        group, picks = pick_group(pictures, rng)
        asked = ask_all([group.scenes[i] for i in picks], rng, PER_PICTURE)
        loop.set_rate(opts, loop.one_cycle(step, steps, rate, warmup=max(steps * 3 // 100, 1)))
        seen = group.visual[torch.from_numpy(picks)].float()
        scores = scorer(seen)
        k = int(KEPT * scores.shape[1])
        p = soft_top_k(scores, k)
        with torch.autocast(device.type, torch.bfloat16):
            logits = answer(model, seen * p[..., None], asked, group.gh, group.gw)
        loss, right = answer_loss(logits, asked)
        hard = torch.zeros_like(p).scatter_(1, scores.topk(k).indices, 1.0)
        binary = F.binary_cross_entropy(p.clamp(1e-6, 1 - 1e-6), hard)
        (loss + anneal(step, steps) * binary).backward()
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        progress.add(step, loss=loss.item(), binary=binary.item(), **by_family(right, asked.family))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            loop.save(file, step + 1, {"scorer": scorer}, opts)
