"""Pooling: the mean of neighbouring tokens, the grid made coarser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pruning.grids import Grid
from pruning.method import Method, register
from pruning.ops.lattice import rows_for, shares, spans
from pruning.ops.merging import group_mean
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class Pooling(Method):
    """Exactly K cells of neighbouring tokens, each cell their mean at the place of its middle token; in raster order.

    Where K = N / k², and k divides both sides of the grid, all cells are k × k; else their sides differ by one. The
    budget is shared out over images by their size, then over frames, then over about sqrt(K·gh/gw) rows of each. An
    image may get no cell where K is small. Rows of DeepStack are those of the middle tokens.
    """

    name: ClassVar[str] = "pooling"
    title: ClassVar[str] = "Pooling"
    nested: ClassVar[bool] = False
    merges: ClassVar[bool] = True

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        into, order, before = torch.full((tokens.n,), -1), list[int](), 0
        for grid in tokens.grids:
            share = budget * grid.stop // tokens.n - budget * before // tokens.n
            before = grid.stop
            places = grid.start + torch.arange(grid.count).view(grid.t, grid.gh, grid.gw)
            for cell in _cells(grid, share) if share else ():
                members = places[cell]
                middle = int(members[tuple((side - 1) // 2 for side in members.shape)])
                into[members] = middle
                order.append(middle)
        return _pooled(tokens, torch.tensor(order), into)


def _cells(grid: Grid, k: int) -> Iterator[tuple[slice, slice, slice]]:
    """The frames, rows and columns of k cells that divide a grid."""
    frames = min(k, grid.t)
    for frame, in_frame in zip(spans(grid.t, frames), shares(k, frames), strict=True):
        rows = rows_for(in_frame, grid.gh, grid.gw)
        for row, in_row in zip(spans(grid.gh, rows), shares(in_frame, rows), strict=True):
            for column in spans(grid.gw, in_row):
                yield tuple(slice(span.start, span.stop) for span in (frame, row, column))  # type: ignore[misc]


def _pooled(tokens: VisualTokens, order: Tensor, into: Tensor) -> Selection:
    """order (K,) the middle tokens, into (N,) which of them each token goes into, -1 = none."""
    device = tokens.features.device
    number = torch.full((tokens.n + 1,), -1)  # the last for those that go nowhere
    number[order] = torch.arange(len(order))
    rows = group_mean(tokens.features, number[into].to(device), len(order))
    return Selection(order.to(device), tokens.n, None, into.to(device), rows)
