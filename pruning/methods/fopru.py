"""FoPru: focal pruning by tokens or by whole rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning import ops
from pruning.method import Method, register
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class FoPru(Method):
    """Significance from the attention map of the last layer but one; keep the best tokens, or the best rows whole.

    A (N, N), mean over heads;  r_i = mean_j A_ij (attention given), c_j = mean_i A_ij (received);
    σ = r or c, whichever has the larger variance.
    rank: S = top-K of σ.  row: rows of the grid by their sum of σ, the best rows whole.

    https://arxiv.org/abs/2411.14164
    Differs from the paper: the row strategy keeps exactly K; the row that fits in part gives its best tokens. CLS is in
    neither average. Our adaptation: several pictures are pruned jointly, each with its own rows.
    """

    name: ClassVar[str] = "fopru"
    title: ClassVar[str] = "FoPru"
    paper: ClassVar[str] = "https://arxiv.org/abs/2411.14164"
    venue: ClassVar[str] = "arXiv 2024"
    adaptation: ClassVar[str] = "The last row kept may be cut to meet the budget, and all pictures share one ranking."

    strategy: Annotated[
        Literal["rank", "row"],
        Choice(label="Strategy", help="rank: the most significant tokens · row: the most significant rows, whole"),
    ] = "rank"
    layer: Annotated[int, Range(-2, -1, 1, label="Layer", help="vision layer, counted from the end")] = -2

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"vision_attention_map@{self.layer}"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        attention = tokens.signal(f"vision_attention_map@{self.layer}").float()  # (N, N)
        given, received = attention.mean(dim=1), attention.mean(dim=0)
        significance = given if given.var(correction=0) > received.var(correction=0) else received
        if self.strategy == "rank":
            return Selection(ops.topk(significance, budget), tokens.n, significance)
        level = _row_levels(tokens, significance)
        return Selection(ops.topk_by_level(level, significance, budget), tokens.n, significance)


def _row_levels(tokens: VisualTokens, significance: Tensor) -> Tensor:
    """(N,) int64: the place of a token's row when rows are ordered by their sum, the best row highest."""
    widths = torch.cat([torch.full((grid.t * grid.gh,), grid.gw) for grid in tokens.grids]).to(significance.device)
    row = torch.repeat_interleave(widths)  # (N,) which row a token lies in
    sums = torch.zeros(len(widths), device=significance.device).index_add(0, row, significance)
    order = sums.sort(descending=True, stable=True).indices
    level = torch.empty_like(order)
    level[order] = torch.arange(len(order), 0, -1, device=order.device)
    return level[row]
