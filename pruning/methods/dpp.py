"""DPP: a determinantal point process over importance and similarity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruning import spreading
from pruning.importance import ImportanceMethod
from pruning.method import register
from pruning.ops import scaling
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class DPP(ImportanceMethod):
    """The kept set whose features span the largest volume, each scaled by its importance (greedy MAP).

    L = diag(q)·cos·diag(q), q = min-max(w);  pick argmax_i det L_{S + i}, by incremental Cholesky.
    Chen et al. 2018, https://arxiv.org/abs/1709.05135.
    Reference strategy of IDPruner's analysis, https://arxiv.org/abs/2602.13315.

    Our adaptation: the analysis does not give its kernel; this one is CDPruner's (https://arxiv.org/abs/2506.10967)
    with importance in the place of its relevance.
    Differs from CDPruner: no ε, so the least important token has no gain; tokens without gain follow by importance.
    """

    name: ClassVar[str] = "dpp"
    title: ClassVar[str] = "DPP"
    paper: ClassVar[str] = "https://arxiv.org/abs/1709.05135"
    venue: ClassVar[str] = "NeurIPS 2018"
    trained: ClassVar[bool] = True
    adaptation: ClassVar[str] = "IDPruner's analysis does not give its kernel; this one is CDPruner's, with importance."

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        importance = scaling.minmax(self.raw_importance(tokens))
        # Constant importance normalises to 0; then similarity alone decides.
        quality = importance if bool(importance.any()) else importance + 1
        return Selection(spreading.dpp(quality, tokens, budget), tokens.n, importance)
