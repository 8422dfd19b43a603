"""VTC-CLS: the CLS attention of several layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning.method import ScoreMethod, register
from pruning.params import Range
from pruning.tokens import VisualTokens


@register
@dataclass(frozen=True)
class VTCCLS(ScoreMethod):
    """Keep the K tokens to which CLS attends most, summed over several late layers without the last.

    s_j = sum over layers l = L-1-n .. L-2 of a_l(CLS -> j), a_l the mean over heads, L the depth of the tower.

    https://arxiv.org/abs/2412.05819
    n is `layers`: the paper takes 3 (layers 20 to 22 of CLIP-L's 24), the released code 7.
    Our adaptation: n = 2 by default, so that a tower of three layers has them too. Layers that see the whole picture
    count as the last: in Qwen2.5-VL n = 3 takes the three such layers before the last.
    """

    name: ClassVar[str] = "vtc_cls"
    title: ClassVar[str] = "VTC-CLS"
    paper: ClassVar[str] = "https://arxiv.org/abs/2412.05819"
    venue: ClassVar[str] = "arXiv 2024"
    adaptation: ClassVar[str] = "Two layers by default, so that the smallest towers have them; the paper takes three."

    layers: Annotated[
        int, Range(1, 7, 1, label="Layers", help="vision layers before the last; the paper: 3, its code: 7")
    ] = 2

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(f"vision_attention@{-2 - i}" for i in range(self.layers))

    def score(self, tokens: VisualTokens) -> Tensor:
        return torch.stack([tokens.signal(need).float() for need in sorted(self.needs)]).sum(dim=0)
