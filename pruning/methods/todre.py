"""ToDRE, stage 1: diversity from an attended pivot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pruning import spreading
from pruning.method import Method, register
from pruning.tokens import Selection, VisualTokens

ATTENTION = "vision_attention@-1"


@register
@dataclass(frozen=True)
class ToDRE(Method):
    """From the most attended token on, add the token that is least like all chosen ones together.

    First pick argmax_i a_i, a the CLS attention of the last layer (of the thumbnail, where the picture is cut up);
    then argmin_{i not in S} sum_{s in S} cos(v_i, v_s).

    https://arxiv.org/abs/2505.18757 (version 2; version 1 was greedy k-center)
    Stage 1 of two. Our adaptation: stage 2, which drops all visual tokens late in the language model, is left out; on a
    tower without CLS the pivot is the token that receives most attention, where the paper draws one at random.
    """

    name: ClassVar[str] = "todre"
    title: ClassVar[str] = "ToDRE (stage 1)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2505.18757"
    venue: ClassVar[str] = "arXiv 2025"
    adaptation: ClassVar[str] = "Stage 1 alone: the second stage drops all visual tokens late in the language model."

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({ATTENTION})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        attention = tokens.signal(ATTENTION).float()
        thumbnails = [torch.arange(grid.start, grid.stop) for grid in tokens.grids if grid.role == "thumbnail"]
        pool = torch.cat(thumbnails).to(attention.device) if thumbnails else torch.arange(tokens.n)
        pivot = pool[attention[pool].argmax()]
        return Selection(spreading.least_similar(tokens, budget, pivot), tokens.n)
