"""PruneVid: what stands still is merged through time, then like tokens in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from pruning.grids import Grid
from pruning.method import register
from pruning.moving import ClipMethod
from pruning.ops.clips import clustered_sets, density_peaks, still_places
from pruning.ops.merging import group_mean
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens

NEIGHBOURS = 7


@register
@dataclass(frozen=True)
class PruneVid(ClipMethod):
    """Cut the clip into scenes, take the mean of what stands still in each, cluster both the still and the moving.

    Scenes: DPC-kNN (k = 7) over the frames' means into ⌊T·s⌋ clusters, at least 1, cut wherever the cluster changes. A
    place of a scene of two frames or more is still where the mean cosine of its pairs of frames is above τ: its mean
    over the scene stands at the first frame. The still places of a scene, and the others of each frame, are clustered
    by DPC-kNN; a cluster becomes its mean, at its centre.

    https://arxiv.org/abs/2412.16117
    By the paper's formulas. Our adaptation: only what happens before the language model; the choice by the question
    after its tenth layer is left out. The number of clusters follows from K, in proportion to each set's tokens; places
    count as moving, those of the lowest cosine first, where K would leave fewer sets' tokens than asked for.
    """

    name: ClassVar[str] = "prunevid"
    title: ClassVar[str] = "PruneVid"
    paper: ClassVar[str] = "https://arxiv.org/abs/2412.16117"
    venue: ClassVar[str] = "Findings of ACL 2025"
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Merges before the language model alone; the choice by the question inside it is left out; the budget is met "
        "exactly."
    )

    likeness: Annotated[
        float, Range(0, 1, 0.05, label="Likeness", help="mean cosine above which a place stands still in a scene")
    ] = 0.8
    frame_clusters: Annotated[
        float, Range(0.05, 1, 0.05, label="Frame clusters", help="clusters of frames, as a share of the frames")
    ] = 0.25

    def pick_clip(self, tokens: VisualTokens, grid: Grid, budget: int) -> Selection:
        frames = tokens.features.view(grid.t, grid.gh * grid.gw, -1)
        windows = self._scenes(frames)
        still = still_places(frames, windows, self.likeness, tokens.n - budget)
        order, into, rows = clustered_sets(frames, windows, still, budget, self._merge)
        return Selection(order, tokens.n, None, into, rows)

    def _scenes(self, frames: Tensor) -> list[tuple[int, int]]:
        """[start, stop) of runs of frames in one cluster."""
        _, home = density_peaks(frames.mean(dim=1), max(1, int(len(frames) * self.frame_clusters)), NEIGHBOURS)
        cuts = [at for at in range(1, len(frames)) if home[at] != home[at - 1]]
        return list(zip([0, *cuts], [*cuts, len(frames)], strict=True))

    def _merge(self, values: Tensor, _tokens: Tensor, k: int, _moving: bool) -> tuple[Tensor, Tensor, Tensor]:
        centres, home = density_peaks(values, k, NEIGHBOURS)
        return centres, home, group_mean(values, home, k)
