"""FastVID: salient tokens of every frame, and context from a few anchor frames of each segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning import ops
from pruning.grids import Grid
from pruning.method import register
from pruning.moving import ClipMethod
from pruning.ops.clips import density_peaks, segments, weighed
from pruning.ops.lattice import shares
from pruning.ops.quotas import share_out
from pruning.ops.scaling import unit_rows
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens

LEAST, STEP, NEIGHBOURS = 8, 4, 4  # segments at least; frames from anchor to anchor; of DPC
OWN = 0.6  # weight of a centre, at least


@register
@dataclass(frozen=True)
class FastVID(ClipMethod):
    """Keep what attention dwells on in each frame; merge the rest of a segment into centres of its anchor frames.

    A segment ends where the cosine of the means of two frames is below τ. Of its budget max(1, ⌊d·budget⌋) is context,
    the rest salient: top attention, as many in every frame. Anchors: every 4th frame from the segment's end; among
    their other tokens DPC-kNN (k = 4) finds the centres, as many in every anchor. Each token that is neither joins the
    most similar centre of each anchor:  x_c' = β·x_c + (1 - β)·mean of its m members,  β = max(0.6, 1 / (m + 1)).

    https://arxiv.org/abs/2503.11187
    Constants are those for LLaVA-OneVision. Our adaptation: K is met exactly, the remainder going to later frames and
    to salient tokens where anchors have no room; the release's own form for Qwen2.5-VL, which also drops frames that
    equal their next, is not imitated.
    """

    name: ClassVar[str] = "fastvid"
    title: ClassVar[str] = "FastVID"
    paper: ClassVar[str] = "https://arxiv.org/abs/2503.11187"
    venue: ClassVar[str] = "NeurIPS 2025"
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = "The form for LLaVA-OneVision, on every model; the budget is met exactly."

    context: Annotated[
        float, Range(0, 1, 0.05, label="Context", help="share of a segment's budget for tokens that absorb others")
    ] = 0.4
    segment_cosine: Annotated[
        float, Range(0, 1, 0.05, label="Segment", help="cosine of two frames below which a segment ends")
    ] = 0.9

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"vision_attention@-1"})

    def pick_clip(self, tokens: VisualTokens, grid: Grid, budget: int) -> Selection:
        each, x = grid.gh * grid.gw, tokens.features
        attention = tokens.signal("vision_attention@-1").float()
        unit = unit_rows(x)
        quota = shares(budget, grid.t)
        order, rows = list[Tensor](), list[Tensor]()
        into = torch.full((tokens.n,), -1, device=x.device)
        for start, stop in segments(x.view(grid.t, each, -1), self.segment_cosine, LEAST):
            if not (total := sum(quota[start:stop])):
                continue
            salient, centres = self._chosen(x, attention, each, start, stop, total)
            kept = torch.cat([*salient, *centres])
            into[kept] = kept
            free = (into[start * each : stop * each] < 0).nonzero()[:, 0] + start * each
            merged = list[Tensor]()
            nearest = torch.full((len(free),), -torch.inf, device=x.device)
            for own in centres:
                alike, member = (unit[free] @ unit[own].T).max(dim=1)
                merged.append(weighed(x[own], x[free], member, OWN, few=True))
                into[free] = torch.where(alike > nearest, own[member], into[free])
                nearest = torch.maximum(nearest, alike)
            order.append(kept)
            rows += [x[torch.cat(salient)] if salient else x[:0], *merged]
        return Selection(torch.cat(order), tokens.n, attention, into, torch.cat(rows))

    def _chosen(
        self, x: Tensor, attention: Tensor, each: int, start: int, stop: int, total: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The salient tokens of each frame of a segment, and the centres of each anchor; none is empty."""
        frames = range(start, stop)
        anchors = list(frames)[::-1][::STEP][::-1]
        context = min(total, max(int(self.context * total), 1))
        while True:
            quota = shares(total - context, len(frames))
            room = [each - quota[at - start] for at in anchors]
            if context <= sum(room):
                break
            context = sum(room)
        salient = [at * each + ops.topk(attention[at * each : (at + 1) * each], k)
                   for at, k in zip(frames, quota, strict=True) if k]  # fmt: skip
        taken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        taken[torch.cat(salient) if salient else x.new_empty(0, dtype=torch.long)] = True
        wanted = torch.full((len(anchors),), context / len(anchors))
        centres = list[Tensor]()
        for at, k in zip(anchors, share_out(wanted, torch.tensor(room), context).tolist(), strict=True):
            if k:
                others = (~taken[at * each : (at + 1) * each]).nonzero()[:, 0] + at * each
                centres.append(others[density_peaks(x[others], k, NEIGHBOURS)[0]])
        return salient, centres
