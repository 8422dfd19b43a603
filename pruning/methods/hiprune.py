"""HiPrune: anchors and their neighbours from a middle layer, the rest from a deep one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning import ops
from pruning.grids import Grid
from pruning.method import Method, register
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class HiPrune(Method):
    """Middle layers look at objects, deep layers gather the whole picture: keep some tokens for each.

    m, d (N,): attention received in the object layer and the deep layer, mean over heads, over all queries.
    anchors: top round(K·α/5) of m;  buffers: the four neighbours of each anchor;  registers: top of d among the rest.

    https://arxiv.org/abs/2508.00553
    variant "code": neighbours i±1 and i±width, clamped to the picture, as released; at an edge that is a token of the
    next row. "paper": only tokens that lie beside the anchor. Differs from both: chosen tokens are marked instead of
    lowered by 1, and where anchors and buffers exceed K the least attended buffers go; CLS is not among the queries.
    Our adaptation: layers count from the end, those that see the whole picture first, and the object layer is -3 by
    default, so that every tower has it. In Qwen2.5-VL that is the 16th of 32, which the paper takes; in LLaVA-1.5 it
    takes the 9th of 24, which is -16, and as deep layer -2.
    """

    name: ClassVar[str] = "hiprune"
    title: ClassVar[str] = "HiPrune"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.00553"
    venue: ClassVar[str] = "arXiv 2025"
    nested: ClassVar[bool] = False
    adaptation: ClassVar[str] = (
        "The object layer is the third last by default, as for Qwen2.5-VL; for LLaVA-1.5 the paper takes -16."
    )

    alpha: Annotated[float, Range(0, 1, 0.05, label="α", help="share of the budget for anchors and neighbours")] = 0.1
    object_layer: Annotated[
        int, Range(-32, -1, 1, label="Object layer", help="from the end; LLaVA-1.5: -16, Qwen2.5-VL: -3")
    ] = -3
    deep_layer: Annotated[
        int, Range(-8, -1, 1, label="Deep layer", help="from the end; LLaVA-1.5: -2, Qwen2.5-VL: -1")
    ] = -1
    variant: Annotated[
        Literal["paper", "code"],
        Choice(label="Form", help="paper: neighbours on the grid · code: also across its edges, as released"),
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(f"vision_attention_map@{layer}" for layer in (self.object_layer, self.deep_layer))

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        middle, deep = (
            tokens.signal(f"vision_attention_map@{layer}").float().mean(dim=0)
            for layer in (self.object_layer, self.deep_layer)
        )
        anchors = ops.topk(middle, tokens.n)[: round(budget * self.alpha / 5)]
        neighbours = torch.cat([_neighbours(grid, self.variant) for grid in tokens.grids]).to(anchors.device)
        level = torch.zeros(tokens.n, dtype=torch.int64, device=anchors.device)
        level[neighbours[anchors].flatten()] = 1
        level[anchors] = 2
        order = ops.topk_by_level(level, torch.where(level > 0, middle, deep), budget)
        return Selection(order, tokens.n, deep)


def _neighbours(grid: Grid, variant: str) -> Tensor:
    """(count, 4) int64: the tokens left, right, above and below; the token itself where there is none."""
    place = torch.arange(grid.count)
    around = place[:, None] + torch.tensor([-1, 1, -grid.gw, grid.gw])
    if variant == "code":
        return around.clamp(0, grid.count - 1) + grid.start
    column, row = place % grid.gw, place // grid.gw % grid.gh
    exists = torch.stack([column > 0, column < grid.gw - 1, row > 0, row < grid.gh - 1], dim=1)
    return torch.where(exists, around, place[:, None]) + grid.start
