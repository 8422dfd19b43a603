"""VisPruner: half by attention, half by what is left after dropping repetitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from pruning import ops, spreading
from pruning.method import Method, register
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class VisPruner(Method):
    """Important tokens by attention; diverse ones by thinning out the rest until the budget is met.

    The int(rK) tokens with the highest attention from CLS stay. The others, by falling attention, lose in each round
    up to 8 of those at even places that are most similar to one at an odd place (cosine of the features before the
    projector), until K - int(rK) are left: `ops.deduplicate`. r = 1 is FasterVLM.

    https://arxiv.org/abs/2412.01818
    Layer: -2 with CLIP in the paper. Differs from the released code: any number of tokens, where that needs an even
    one left; one budget for all tiles, where that gives each crop the same share.
    Our adaptation: a tower without CLS gives the attention received, of its last layer that sees the whole picture.
    """

    name: ClassVar[str] = "vispruner"
    title: ClassVar[str] = "VisPruner"
    paper: ClassVar[str] = "https://arxiv.org/abs/2412.01818"
    venue: ClassVar[str] = "ICCV 2025"
    nested: ClassVar[bool] = False
    compares: ClassVar[str] = "pre_projector"
    adaptation: ClassVar[str] = (
        "A tower without CLS gives the attention received instead; the last layer is read, for the paper's choose -2."
    )

    important: Annotated[
        float, Range(0, 1, 0.05, label="Important", help="r, the share of the budget that goes by attention alone")
    ] = 0.5
    layer: Annotated[int, Range(-2, -1, 1, label="Layer", help="vision layer, counted from the end")] = -1

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"vision_attention@{self.layer}", self.compares})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        attention = tokens.signal(f"vision_attention@{self.layer}")
        important = int(self.important * budget)
        ranking = ops.topk(attention, tokens.n)
        diverse = spreading.deduplicate(ranking[important:], tokens, self.compares, budget - important)
        return Selection(torch.cat([ranking[:important], diverse]), tokens.n, attention)
