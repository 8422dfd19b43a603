"""QuoTA: frames have budgets by how much they have to do with the question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from pruning.grids import Grid
from pruning.method import register
from pruning.moving import ClipMethod
from pruning.ops.lattice import spread
from pruning.ops.quotas import share_out
from pruning.ops.scaling import unit_rows
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class QuoTA(ClipMethod):
    """Share the budget out over the frames by their relevance to the question; evenly spaced tokens inside each.

    w_f = (100·p_f)² / Σ_g (100·p_g)²;  n_f = w_f·K, none above the frame's own tokens.

    https://arxiv.org/abs/2503.08689
    The released code's third form, evenly spaced picks, where tokens keep their places; its first resizes frames.
    Our adaptation: p_f is (1 + cosine of the frame's mean token and the mean of the question's words) / 2. In the paper
    it is the probability with which a second model says that the frame has what the question needs.
    """

    name: ClassVar[str] = "quota"
    title: ClassVar[str] = "QuoTA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2503.08689"
    venue: ClassVar[str] = "AAAI 2026"
    adaptation: ClassVar[str] = (
        "A frame's relevance is its cosine with the question, where the paper asks a second model about every frame."
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"question"})

    def pick_clip(self, tokens: VisualTokens, grid: Grid, budget: int) -> Selection:
        each = grid.gh * grid.gw
        frames = unit_rows(tokens.features).view(grid.t, each, -1).mean(dim=1)
        word = unit_rows(tokens.signal("question")).mean(dim=0, keepdim=True)
        relevance = (1 + unit_rows(frames) @ unit_rows(word)[0]) / 2  # (t,)
        weights = relevance.double().clamp(min=0) ** 2
        if not weights.sum() > 0:
            weights = torch.ones_like(weights)
        quota = share_out(weights / weights.sum() * budget, torch.full((grid.t,), each), budget).tolist()
        picks = [token for at, k in enumerate(quota) if k for token in spread(replace(grid, t=1, start=at * each), k)]
        order = torch.tensor(picks, device=tokens.features.device)
        return Selection(order, tokens.n, relevance.float().repeat_interleave(each))
