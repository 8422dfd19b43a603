"""Uniform grid: evenly spaced tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pruning.grids import Grid
from pruning.method import Method, register
from pruning.ops.lattice import rows_for, shares
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
            picks += _spread(grid, share)
        return Selection(torch.tensor(picks, device=tokens.features.device), tokens.n)


def _spread(grid: Grid, k: int) -> list[int]:
    """k of the grid's tokens: over its frames, their rows, and the places in each row."""
    picks: list[int] = []
    for frame, in_frame in zip(_centres(grid.t, min(k, grid.t)), shares(k, min(k, grid.t)), strict=True):
        rows = rows_for(in_frame, grid.gh, grid.gw)
        for row, in_row in zip(_centres(grid.gh, rows), shares(in_frame, rows), strict=True):
            at = grid.start + (frame * grid.gh + row) * grid.gw
            picks += [at + column for column in _centres(grid.gw, in_row)]
    return picks


def _centres(size: int, k: int) -> list[int]:
    """k <= size distinct places in 0..size-1: the centres of k equal parts."""
    return [(2 * part + 1) * size // (2 * k) for part in range(k)]
