"""EVS: efficient video sampling, which keeps what changes from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from pruning import ops
from pruning.grids import Grid
from pruning.method import register
from pruning.moving import ClipMethod
from pruning.ops.clips import neighbour_cosine
from pruning.ops.lattice import spread
from pruning.tokens import Selection, VisualTokens

FIRST = 255.0  # dissimilarity of what has no frame before it


@register
@dataclass(frozen=True)
class EVS(ClipMethod):
    """Keep the first frame whole, and of the others the tokens least like those at their places a frame before.

    d_{t,p} = 1 - cos(x_{t,p}, x_{t-1,p}),  d_{0,p} = 255;  the K highest of the clip, ties to the earlier token.

    https://arxiv.org/abs/2510.14624
    By the embeddings after the merger, as vLLM serves it (`--video-pruning-rate`); the paper's first form compares
    pixels. vLLM never keeps less than the first frame.
    Our adaptation: a budget below one frame keeps evenly spaced places of the first, as does that of a picture.
    """

    name: ClassVar[str] = "evs"
    title: ClassVar[str] = "EVS"
    paper: ClassVar[str] = "https://arxiv.org/abs/2510.14624"
    venue: ClassVar[str] = "arXiv 2025"
    adaptation: ClassVar[str] = (
        "Compares embeddings, as vLLM does, not pixels; below one frame, and of a picture, it keeps an even grid."
    )

    def pick_clip(self, tokens: VisualTokens, grid: Grid, budget: int) -> Selection:
        frames = tokens.features.view(grid.t, grid.gh * grid.gw, -1)
        changed = 1 - neighbour_cosine(frames)
        scores = torch.cat([torch.full_like(tokens.features[: frames.shape[1], 0], FIRST), changed.flatten()])
        if budget < frames.shape[1]:
            order = torch.tensor(spread(replace(grid, t=1), budget), device=scores.device)
        else:
            order = ops.topk(scores, budget)
        return Selection(order, tokens.n, scores)
