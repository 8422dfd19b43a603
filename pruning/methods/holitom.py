"""HoliTom: redundant stretches of time are found over the whole clip, then frames are pruned and stills merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning import ops
from pruning.grids import Grid
from pruning.method import register
from pruning.moving import ClipMethod
from pruning.ops.clips import clustered_sets, density_peaks, neighbour_cosine, still_places, weighed
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens

NEIGHBOURS, OWN, LONGEST = 7, 0.6, 1024  # of DPC; weight of a centre; frames of a window


@register
@dataclass(frozen=True)
class HoliTom(ClipMethod):
    """Cut the clip where most redundancy can be merged; keep the attended of what moves, merge what stands still.

    f_t(p) = cos(x_{t,p}, x_{t+1,p}).  A window [s, e] saves #{p : f_t(p) > τ for all t in s…e-1}·(e - s) tokens; the
    windows are those of the largest sum, by dynamic programming. A place that stands still in a window becomes its
    mean, once, at the first frame. Of what moves in a frame the highest attention stays; the still places of a window
    are clustered by DPC-kNN (k = 7) and become  0.6·x_c + 0.4·mean of the other members.

    https://arxiv.org/abs/2505.21334
    The outer half: the inner merge, at layer 18 of the language model, is in `holitom_inner`; the released code's share
    of moving tokens that is clustered, which its settings have at 0, is left out.
    Our adaptation: K is met exactly, every set keeping its share of it by its number of tokens; where K is more than
    these come to, the still places of the lowest cosine count as moving.
    """

    name: ClassVar[str] = "holitom"
    title: ClassVar[str] = "HoliTom"
    paper: ClassVar[str] = "https://arxiv.org/abs/2505.21334"
    venue: ClassVar[str] = "NeurIPS 2025"
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Its outer half, without the merge inside the language model; the budget is met exactly."
    )

    likeness: Annotated[
        float, Range(0, 1, 0.05, label="Likeness", help="cosine above which a place stands still from frame to frame")
    ] = 0.8

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"vision_attention@-1"})

    def pick_clip(self, tokens: VisualTokens, grid: Grid, budget: int) -> Selection:
        frames = tokens.features.view(grid.t, grid.gh * grid.gw, -1)
        attention = tokens.signal("vision_attention@-1").float()
        alike = neighbour_cosine(frames)
        windows = redundant(alike > self.likeness)
        still = still_places(frames, windows, self.likeness, tokens.n - budget, alike)

        def merge(values: Tensor, own: Tensor, k: int, moving: bool) -> tuple[Tensor, Tensor, Tensor]:
            if moving:
                best = ops.topk(attention[own], k)
                home = torch.full((len(own),), -1, device=own.device)
                home[best] = torch.arange(k, device=own.device)
                return best, home, values[best]
            centres, home = density_peaks(values, k, NEIGHBOURS)
            others = torch.ones(len(own), dtype=torch.bool, device=own.device)
            others[centres] = False
            return centres, home, weighed(values[centres], values[others], home[others], OWN, few=False)

        order, into, rows = clustered_sets(frames, windows, still, budget, merge)
        return Selection(order, tokens.n, attention, into, rows)


def redundant(still: Tensor) -> list[tuple[int, int]]:
    """[start, stop) of the windows whose places that stand still save most tokens. still: (T - 1, P) bool, from frame
    to frame.

    best(e) = max_s best(s - 1) + #{p : still in s…e-1}·(e - s);  of equal ones the shortest last window.
    """
    frames = len(still) + 1
    best, begin = [0], list[int]()
    for end in range(frames):
        alive = torch.ones_like(still[0]) if len(still) else torch.ones(0, dtype=torch.bool)
        gains = [best[end]]
        for start in range(end - 1, max(-1, end - LONGEST), -1):
            alive = alive & still[start]
            gains.append(best[start] + int(alive.sum()) * (end - start))
        length = gains.index(max(gains))
        best.append(gains[length])
        begin.append(end - length)
    windows, end = list[tuple[int, int]](), frames
    while end > 0:
        windows.append((begin[end - 1], end))
        end = begin[end - 1]
    return windows[::-1]
