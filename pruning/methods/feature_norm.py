"""Feature norm: the longest features, a plain baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.importance import raw_importance
from pruning.method import ScoreMethod, register
from pruning.tokens import VisualTokens


@register
@dataclass(frozen=True)
class FeatureNorm(ScoreMethod):
    """Keep the K tokens with the longest features, s_i = ||v_i||_2: what importance is to be had for nothing."""

    name: ClassVar[str] = "feature_norm"
    title: ClassVar[str] = "Feature norm"

    def score(self, tokens: VisualTokens) -> Tensor:
        return raw_importance(tokens, "feature_norm", self.name)
