"""Methods that were made for clips: each clip or picture of a sample has a budget of its own."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from pruning.grids import Grid
from pruning.joining import joined
from pruning.method import Method
from pruning.ops.quotas import share_out
from pruning.tokens import Selection, VisualTokens


@dataclass(frozen=True)
class ClipMethod(Method):
    """A method that goes by the frames of a clip.

    Of several clips, pictures or tiles each keeps its share of the budget, by its number of tokens.
    """

    clips: ClassVar[bool] = True
    nested: ClassVar[bool] = False

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        if len(tokens.grids) == 1:
            return self.pick_clip(tokens, tokens.grids[0], budget)
        sizes = torch.tensor([grid.count for grid in tokens.grids])
        budgets = share_out(sizes * budget / tokens.n, sizes, budget).tolist()
        found = [
            (grid.start, self.pick_clip(part := tokens.part((grid,)), part.grids[0], share))
            for grid, share in zip(tokens.grids, budgets, strict=True)
            if share
        ]
        return joined(found, tokens.n)

    @abstractmethod
    def pick_clip(self, tokens: VisualTokens, grid: Grid, budget: int) -> Selection:
        """`pick` for one clip, of grid.t frames of grid.gh × grid.gw tokens; a picture is a clip of one frame."""
