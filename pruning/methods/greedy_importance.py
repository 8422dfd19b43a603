"""Greedy importance: the importance-only end of the trade-off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.importance import ImportanceMethod
from pruning.method import ScoreMethod, register
from pruning.tokens import VisualTokens


@register
@dataclass(frozen=True)
class GreedyImportance(ImportanceMethod, ScoreMethod):
    """Keep the K most important tokens, whatever they repeat: IDPruner at λ = 1.

    S = top-K of w.  Reference strategy of IDPruner's analysis, https://arxiv.org/abs/2602.13315 section 3.
    """

    name: ClassVar[str] = "greedy_importance"
    title: ClassVar[str] = "Greedy importance"
    paper: ClassVar[str] = "https://arxiv.org/abs/2602.13315"
    venue: ClassVar[str] = "arXiv 2026"
    trained: ClassVar[bool] = True

    def score(self, tokens: VisualTokens) -> Tensor:
        return self.raw_importance(tokens)
