"""DivPrune: max-min diversity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruning import spreading
from pruning.method import Method, register
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class DivPrune(Method):
    """Greedy max-min diversity: every kept token is as far from the other kept ones as can be.

    d_ij = 1 - cos(v_i, v_j);  first pick argmax_i min_{j≠i} d_ij, then argmax_i min_{s in S} d_is.

    https://arxiv.org/abs/2503.02175
    Differs from the paper: a chosen token is never picked again (the original can, where tokens are exact duplicates).
    """

    name: ClassVar[str] = "divprune"
    title: ClassVar[str] = "DivPrune"
    paper: ClassVar[str] = "https://arxiv.org/abs/2503.02175"
    venue: ClassVar[str] = "CVPR 2025"

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        return Selection(spreading.farthest_point(tokens, budget), tokens.n)
