"""GlobalCom²: the thumbnail directs how much every tile keeps, and what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pruning.grids import covered, resampled
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.ops.quotas import share_out, topk_per_part
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens

ATTENTION = "vision_attention@-1"


@register
@dataclass(frozen=True)
class GlobalCom2(Method):
    """Tiles that show what the thumbnail attends to keep more, and their tokens are judged from both views.

    R = K / N;  the thumbnail keeps its top R by attention G;  s_j = sum of G over what tile j of n covers,
    σ = softmax(s / τ), tile j keeps r_j = min(1, R (1 + σ_j - 1/n)) of its tokens: the highest α Ĝ + (1 - α) L,
    Ĝ: G at the token's place (bilinear), L: attention inside the tile.

    https://arxiv.org/abs/2501.05179
    variant "code": Ĝ and L of a tile at unit length, as released (there before the softmax, which is no signal here).
    Differs from both: attention is scaled to sum 1 in the thumbnail and each tile, so that received attention will do
    (without CLS the authors take minus the cosine to the mean token); counts are rounded down and then filled up to K,
    largest first; a cell of the thumbnail belongs to the tile that holds its centre.
    Our adaptation: pictures that are not cut up compete jointly by attention alone; tiles without a thumbnail keep R.
    """

    name: ClassVar[str] = "globalcom2"
    title: ClassVar[str] = "GlobalCom²"
    paper: ClassVar[str] = "https://arxiv.org/abs/2501.05179"
    venue: ClassVar[str] = "AAAI 2026"
    nested: ClassVar[bool] = False
    adaptation: ClassVar[str] = "Made for pictures cut into tiles; on a whole picture it is the top-k of attention."

    alpha: Annotated[float, Range(0, 1, 0.05, label="α", help="1 = the thumbnail's view, 0 = the tile's own")] = 0.5
    tau: Annotated[float, Range(1, 50, 1, label="τ", help="less gives more to the tiles that are attended to")] = 10.0
    variant: Annotated[
        Literal["paper", "code"], Choice(label="Form", help="paper: attention mixed as it is · code: at unit length")
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({ATTENTION})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        grids = tokens.grids
        scores = tokens.signal(ATTENTION).float().clone()
        retention = torch.full((len(grids),), budget / tokens.n, dtype=torch.float64)
        views = [scores[grid.start : grid.stop] for grid in grids]  # they share memory with `scores`
        for grid, view in zip(grids, views, strict=True):
            if grid.role != "whole":
                view.copy_(scaling.share(view))
        for thumbnail, overview in zip(grids, views, strict=True):
            tiles = [i for i, grid in enumerate(grids) if (grid.role, grid.image) == ("tile", thumbnail.image)]
            if thumbnail.role == "thumbnail" and tiles:
                attended = torch.stack([overview[covered(thumbnail, grids[i])].sum() for i in tiles])
                more = (attended / self.tau).softmax(dim=0).cpu() - 1 / len(tiles)
                retention[tiles] = (retention[tiles] * (1 + more)).clamp(max=1)
                for i in tiles:
                    views[i].copy_(self._mix(resampled(overview, thumbnail, grids[i]), views[i]))
        counts = torch.tensor([grid.count for grid in grids])
        part = torch.tensor([0 if grid.role == "whole" else i + 1 for i, grid in enumerate(grids)])
        room = torch.zeros(len(grids) + 1, dtype=torch.int64).index_add(0, part, counts)
        wanted = torch.zeros(len(room), dtype=torch.float64).index_add(0, part, retention * counts)
        order = topk_per_part(scores, part.repeat_interleave(counts), share_out(wanted, room, budget))
        return Selection(order, tokens.n, scores)

    def _mix(self, overview: Tensor, own: Tensor) -> Tensor:
        if self.variant == "code":
            overview, own = normalize(overview, dim=0), normalize(own, dim=0)
        return self.alpha * overview + (1 - self.alpha) * own
