"""DyCoke: temporal token merging, in groups of four frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from pruning import ops
from pruning.grids import Grid
from pruning.method import register
from pruning.moving import ClipMethod
from pruning.ops.lattice import shares, spread
from pruning.ops.scaling import unit_rows
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class DyCoke(ClipMethod):
    """Of four frames keep the first whole, and of the others the tokens least like those at their places in another.

    Frame 4j + 1 is compared with 4j, 4j + 3 with 4j + 2, and 4j + 2 with 4j, but in the last group, whose third frame
    stays whole. Of every compared frame as many tokens stay, those of the lowest cosine.

    https://arxiv.org/abs/2411.15024
    Only what happens before the language model: the second half, which reads fewer cached tokens at each step of an
    answer, saves no memory and is left out.
    Our adaptation: the share that a compared frame keeps is not a knob but follows from K. Where K is less than the
    whole frames have, these are thinned to even grids and nothing else stays; an unpaired last frame stays whole.
    """

    name: ClassVar[str] = "dycoke"
    title: ClassVar[str] = "DyCoke"
    paper: ClassVar[str] = "https://arxiv.org/abs/2411.15024"
    venue: ClassVar[str] = "CVPR 2025"
    adaptation: ClassVar[str] = (
        "The share kept of compared frames follows from the budget; below what the whole frames have, and of a "
        "picture, these are thinned to even grids. Its second half, while answering, is left out."
    )

    def pick_clip(self, tokens: VisualTokens, grid: Grid, budget: int) -> Selection:
        each, device = grid.gh * grid.gw, tokens.features.device
        rivals = compared(grid.t)
        whole = [frame for frame in range(grid.t) if frame not in rivals]
        left = budget - len(whole) * each
        if left < 0:
            of_each = shares(budget, len(whole))
            thin = [spread(replace(grid, t=1, start=at * each), k) for at, k in zip(whole, of_each, strict=True) if k]
            return Selection(torch.tensor([token for frame in thin for token in frame], device=device), tokens.n)
        frames = tokens.features.view(grid.t, each, -1)
        scores = torch.full((grid.t, each), 2.0, device=device)  # the most that 1 - cosine comes to
        picks = [torch.arange(at * each, (at + 1) * each, device=device) for at in whole]
        for (frame, rival), k in zip(rivals.items(), shares(left, len(rivals)) if rivals else [], strict=True):
            scores[frame] = 1 - (unit_rows(frames[frame]) * unit_rows(frames[rival])).sum(dim=-1)
            picks.append(frame * each + ops.topk(scores[frame], k) if k else picks[0][:0])
        return Selection(torch.cat(picks), tokens.n, scores.flatten())


def compared(frames: int) -> dict[int, int]:
    """Frame -> the frame that it is compared with; the others stay whole.

    >>> compared(8)
    {1: 0, 2: 0, 3: 2, 5: 4, 7: 6}
    """
    pairs = {at: at - 1 for at in range(1, frames, 2)} | {at + 2: at for at in range(0, frames - 4, 4)}
    return dict(sorted(pairs.items()))
