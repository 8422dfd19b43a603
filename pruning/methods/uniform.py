"""Uniform grid: evenly spaced tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pruning.method import Method, register
from pruning.ops.lattice import spread
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class Uniform(Method):
    """Exactly K evenly spaced tokens on grids of any shape; picks in raster order, not nested.

    The budget is shared out over images by their size, then over frames, then over about sqrt(K·gh/gw) rows of each
    frame, and evenly inside each row. An image may get no token where K is small.
    """

    name: ClassVar[str] = "uniform"
    title: ClassVar[str] = "Uniform grid"
    nested: ClassVar[bool] = False

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        picks: list[int] = []
        before = 0  # tokens in the grids so far; the running share leaves no remainder to give out
        for grid in tokens.grids:
            share = budget * grid.stop // tokens.n - budget * before // tokens.n
            before = grid.stop
            picks += spread(grid, share)
        return Selection(torch.tensor(picks, device=tokens.features.device), tokens.n)
