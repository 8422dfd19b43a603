"""VFlowOpt, its first stage: prune by information flow, and recycle what was pruned cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning.method import Method, register
from pruning.ops import merging
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class VFlowOpt(Method):
    """Importance is what flows from the tokens that everybody attends to; each cell of pruned tokens lives on as one.

    r_j = Σ_i A_ij;  anchors k: r_k > t;  I_i = Σ_k A_ki + α·softmax(H)_i over the picture, H the grey-level entropy of
    the patch.  Pruned tokens are grouped by cells of a x a on each picture's grid; a group becomes its mean weighted by
    I, at the place of its most important member.

    https://arxiv.org/abs/2508.05211
    Defaults: what the paper's search found for LLaVA-OneVision-7B at 25 % (at 50 % t 28.68, a 11.757; at 10 % t 39.26,
    a 17.39; α 0 in all three). variant "code": the mean over the anchors for their sum, which weighs α differently.
    Under a budget of K: as many tokens are kept by I as leave room for one per group, exactly, where the release
    estimates the groups by N / a². Where there are more cells than K, those with the most important members stay.
    Not verified: how a that is no whole number cuts the grid; here cell = (row // a, column // a). I below 0 has weight
    0 in a group's mean.
    Our adaptation: the first of three stages only, as the others lie inside the language model; it gets the whole
    budget. t and a are the published ones, not searched anew for each model. In a picture where no token is above t,
    which leaves the release's mean undefined, the mean token is the one anchor: I is attention received. (With the most
    attended token instead, the shipped model answers no better than with random ones.) Merges after the projector.
    """

    name: ClassVar[str] = "vflowopt"
    title: ClassVar[str] = "VFlowOpt (stage 1)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.05211"
    venue: ClassVar[str] = "ICCV 2025"
    nested: ClassVar[bool] = False
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Its stage before the language model alone, with the constants found for LLaVA-OneVision-7B; where no token "
        "is above t, importance is the attention received."
    )

    threshold: Annotated[float, Range(0, 50, 0.01, label="t", help="an anchor receives more attention than this")] = (
        34.76
    )
    alpha: Annotated[float, Range(-1, 1, 0.05, label="α", help="weight of the entropy of the pixels")] = 0.0
    cell: Annotated[float, Range(3, 24, 0.01, label="a", help="side of the cells that become one token")] = 15.58
    variant: Annotated[
        Literal["paper", "code"], Choice(label="Form", help="paper: sum over the anchors · code: mean over them")
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"vision_attention_map@-1", "patch_entropy"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        importance, cell = self._importance(tokens), self._cells(tokens)
        ranked = importance.sort(descending=True, stable=True).indices
        order, merge_into = merging.keep_and_group(ranked, cell, budget)
        weights = importance.clamp(min=0)
        rows = merging.group_mean(tokens.features, merge_into, tokens.n, weights)[order]
        return Selection(order, tokens.n, importance, merge_into, rows)

    def _importance(self, tokens: VisualTokens) -> Tensor:
        flow = tokens.signal("vision_attention_map@-1").float()
        entropy = tokens.signal("patch_entropy").float()
        pictures = tokens.pictures

        def per_picture(values: Tensor, how: str) -> Tensor:
            """(N,) -> (N,), every token with the sum or maximum of its picture."""
            return values.new_zeros(tokens.n).scatter_reduce(0, pictures, values, how, include_self=False)[pictures]

        anchors = (flow.sum(dim=0) > self.threshold).float()
        size = per_picture(torch.ones_like(anchors), "sum")
        anchors = torch.where(per_picture(anchors, "sum") > 0, anchors, 1 / size)
        importance = anchors @ flow
        if self.variant == "code":
            importance = importance / per_picture(anchors, "sum")
        spread = (entropy - per_picture(entropy, "amax")).exp()
        return importance + self.alpha * spread / per_picture(spread, "sum")

    def _cells(self, tokens: VisualTokens) -> Tensor:
        """(N,) int64: the cell of each token, counted on over frames and grids."""
        found: list[Tensor] = []
        cells = 0
        for grid in tokens.grids:
            row, column = ((torch.arange(side) / self.cell).long() for side in (grid.gh, grid.gw))
            frame = (row[:, None] * (column[-1] + 1) + column).flatten()
            for _ in range(grid.t):
                found.append(frame + cells)
                cells += int(frame[-1]) + 1
        return torch.cat(found).to(tokens.features.device)
