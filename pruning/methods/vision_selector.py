"""VisionSelector: top-k of a learned scorer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.importance import raw_importance, signals_for
from pruning.method import ScoreMethod, register
from pruning.tokens import VisualTokens


@register
@dataclass(frozen=True)
class VisionSelector(ScoreMethod):
    """Keep the K tokens to which a small trained scorer gives the highest raw score.

    s_i = mean_j (q_i · k_j) / sqrt(d), with q, k linear maps of the merged visual embeddings; the model supplies s.

    https://arxiv.org/abs/2510.16598
    Differs from the paper: the soft top-k before the hard one is left out here; it is monotone and changes no pick.
    """

    name: ClassVar[str] = "vision_selector"
    title: ClassVar[str] = "VisionSelector"
    paper: ClassVar[str] = "https://arxiv.org/abs/2510.16598"
    venue: ClassVar[str] = "arXiv 2025"
    trained: ClassVar[bool] = True

    @property
    def needs(self) -> frozenset[str]:
        return signals_for("scorer")

    def score(self, tokens: VisualTokens) -> Tensor:
        return raw_importance(tokens, "scorer", self.name)
