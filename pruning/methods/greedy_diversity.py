"""Greedy diversity: the diversity-only end of the trade-off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruning import spreading
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class GreedyDiversity(Method):
    """Farthest-point sampling that knows nothing of importance.

    First pick argmin_i mean_j cos(v_i, v_j), then argmax_i min_{s in S} (1 - cos(v_i, v_s)).
    Reference strategy of IDPruner's analysis, https://arxiv.org/abs/2602.13315 section 3.

    Our adaptation: the paper does not say where the traversal starts. It starts at the token that is least like all
    others on average, so that no importance signal is needed; from the most important token it would be IDPruner's
    λ = 0.
    """

    name: ClassVar[str] = "greedy_diversity"
    title: ClassVar[str] = "Greedy diversity"
    paper: ClassVar[str] = "https://arxiv.org/abs/2602.13315"
    venue: ClassVar[str] = "arXiv 2026"
    adaptation: ClassVar[str] = "The paper leaves the first pick open; here it is the token least like all others."

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        first = scaling.mean_cosine(tokens.features).argmin()
        return Selection(spreading.farthest_point(tokens, budget, first), tokens.n)
