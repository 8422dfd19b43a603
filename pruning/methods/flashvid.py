"""FlashVID: tokens by attention and diversity in each frame, the others merged along trees through time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning.grids import Grid
from pruning.method import register
from pruning.moving import ClipMethod
from pruning.ops.clips import best_before, density_peaks, segments
from pruning.ops.lattice import shares
from pruning.ops.merging import group_mean
from pruning.ops.quotas import share_out
from pruning.ops.scaling import unit_rows
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens

ALIKE, LEAST, NEIGHBOURS = 0.9, 4, 7  # cosine of frames below which a segment ends; segments at least; of DPC


@register
@dataclass(frozen=True)
class FlashVID(ClipMethod):
    """Pick by attention and diversity in each frame (ADTS); merge what repeats in the next frames into trees (TSTM).

    ADTS, α of the budget: C_sj = (1 - cos(x_s, x_j))·a_j; first argmax_j min_{s≠j} C_sj, then argmax_j min_{s∈S} C_sj.
    TSTM, the rest: inside a segment of like frames, each other token joins the most similar one of the frame before
    where their cosine is above τ; a tree becomes its mean, at its root. The roots of a frame are clustered (DPC-kNN) to
    what is left of the budget; a cluster becomes the mean of its roots, at its centre.

    https://arxiv.org/abs/2602.08024
    variant "code": the release counts only the root's own children when it forms a tree's mean, "paper": all of it.
    Our adaptation: all of K is spent before the language model; the published cut after its layer 20, and with it the
    factor 1.25, is in `flashvid_inner`. Exactly K: of the links only the most similar are made that leave enough trees,
    and roots are shared out over frames by their number. Constants are those for Qwen2.5-VL.
    """

    name: ClassVar[str] = "flashvid"
    title: ClassVar[str] = "FlashVID"
    paper: ClassVar[str] = "https://arxiv.org/abs/2602.08024"
    venue: ClassVar[str] = "ICLR 2026"
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "All of the budget is spent before the language model, and met exactly; the published second cut is in "
        "FlashVID (both stages)."
    )

    share: Annotated[
        float, Range(0, 1, 0.05, label="Chosen", help="share of the budget for tokens that stay as they are")
    ] = 0.7
    likeness: Annotated[
        float, Range(0, 1, 0.05, label="Likeness", help="cosine above which a token joins one of the frame before")
    ] = 0.8
    variant: Annotated[
        Literal["paper", "code"],
        Choice(label="Form", help="paper: a tree becomes its mean · code: divided by the root's children alone"),
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"vision_attention@-1"})

    def pick_clip(self, tokens: VisualTokens, grid: Grid, budget: int) -> Selection:
        n, each, x = tokens.n, grid.gh * grid.gw, tokens.features
        attention = tokens.signal("vision_attention@-1").float()
        frames = x.view(grid.t, each, -1)
        chosen = min(budget, max(1, int(self.share * budget + 0.5)))
        picks = [
            at * each + diverse(unit_rows(frames[at]), attention[at * each : (at + 1) * each], k)
            for at, k in enumerate(shares(chosen, grid.t))
            if k
        ]
        kept = torch.cat(picks)
        free = torch.ones(n, dtype=torch.bool, device=x.device)
        free[kept] = False
        into = torch.full((n,), -1, device=x.device)
        into[kept] = kept
        if chosen == budget:
            return Selection(kept, n, attention, into, x[kept])
        root, children = self._trees(frames, free, n - budget)
        roots = (free & (root == torch.arange(n, device=x.device))).nonzero()[:, 0]
        slot = torch.full((n,), -1, device=x.device)
        slot[roots] = torch.arange(len(roots), device=x.device)
        group = torch.where(free, slot[root], -1)  # (n,) the tree of each token
        values = group_mean(x, group, len(roots))
        if self.variant == "code":
            size = torch.bincount(group[free], minlength=len(roots))
            values = values * (size / (1 + children[roots]))[:, None]
        in_frame = torch.bincount(roots // each, minlength=grid.t)
        quota = share_out((budget - chosen) * in_frame / len(roots), in_frame, budget - chosen)
        order, rows, home = [kept], [x[kept]], torch.full((len(roots),), -1, device=x.device)
        for at, k in enumerate(quota.tolist()):
            own = (roots // each == at).nonzero()[:, 0]
            if k:
                centres, member = density_peaks(values[own], k, min(k, NEIGHBOURS))
                order.append(roots[own[centres]])
                rows.append(group_mean(values[own], member, k))
                home[own] = roots[own[centres[member]]]
        into[free] = home[group[free]]
        return Selection(torch.cat(order), n, attention, into, torch.cat(rows))

    def _trees(self, frames: Tensor, free: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """(n,) the root of each free token, and (n,) how many tokens join each; at most so many links."""
        each, device = frames.shape[1], frames.device
        found = [
            best_before(frames, at, free)
            for start, stop in segments(frames, ALIKE, LEAST)
            for at in range(start + 1, stop)
        ]
        root = torch.arange(len(free), device=device)
        children = torch.zeros(len(free), device=device)
        if not found:
            return root, children
        child, parent, alike = (torch.cat(part) for part in zip(*found, strict=True))
        ranked = alike.sort(descending=True, stable=True).indices
        made = ranked[alike[ranked] > self.likeness][:most]
        root[child[made]] = parent[made]
        children.index_add_(0, parent[made], torch.ones(len(made), device=device))
        for at in range(1, len(frames)):  # from the first frame on, so that a parent knows its root
            own = slice(at * each, (at + 1) * each)
            root[own] = root[root[own]]
        return root, children


def diverse(unit: Tensor, attention: Tensor, k: int) -> Tensor:
    """The ADTS rule on one frame: unit (P, D), attention (P,) -> (k,) int64 in pick order."""
    cost = (1 - unit @ unit.T).clamp(min=0) * attention  # (P, P): column j times a_j
    nearest = cost.clone().fill_diagonal_(torch.inf).amin(dim=0) if len(unit) > 1 else attention.clone()
    order = [int(nearest.argmax())]
    nearest = cost[order[0]].clone()
    for _ in range(k - 1):
        nearest[order[-1]] = -torch.inf
        order.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, cost[order[-1]])
    return torch.tensor(order, device=unit.device)
