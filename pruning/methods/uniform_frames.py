"""Uniform frames: whole frames of a clip, evenly spaced in time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from pruning.grids import Grid
from pruning.method import register
from pruning.moving import ClipMethod
from pruning.ops.lattice import centres, spread
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class UniformFrames(ClipMethod):
    """⌊K / P⌋ whole frames of P tokens, evenly spaced, and of one frame more what is left of K, evenly spaced in it.

    What an application does that samples fewer frames, but for the tower's work. Of a picture: an even grid.
    """

    name: ClassVar[str] = "uniform_frames"
    title: ClassVar[str] = "Uniform frames"

    def pick_clip(self, tokens: VisualTokens, grid: Grid, budget: int) -> Selection:
        each = grid.gh * grid.gw
        picks: list[int] = []
        for frame in centres(grid.t, -(-budget // each)):
            whole = replace(grid, t=1, start=frame * each)
            picks += spread(whole, min(each, budget - len(picks)))
        return Selection(torch.tensor(picks, device=tokens.features.device), tokens.n)
