"""IDPruner: importance and diversity pruner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pruning import ops, spreading
from pruning.budget import keep_count
from pruning.importance import ImportanceMethod
from pruning.method import register
from pruning.ops import scaling
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens

SOFT_TOPK_RETENTION = 0.2  # VisionSelector trains and applies its soft top-k at this ratio whatever the budget


@register
@dataclass(frozen=True)
class IDPruner(ImportanceMethod):
    """Maximal marginal relevance over a learned importance: important tokens that do not repeat each other.

    Imp = min-max(w);  v* = argmax_{i not in S} λ·Imp_i - (1 - λ)·max_{s in S} cos(v_i, v_s);  first pick argmax Imp.
    λ = 1 is importance only; λ = 0 is farthest-point sampling from the most important token.

    https://arxiv.org/abs/2602.13315
    variant "code": w is the scorer's raw output, as in the released code. "paper": w is the output of
    VisionSelector's soft top-k, sigmoid(s + t), here at its fixed 20 %; the sigmoid is not linear, so the picks
    differ after min-max. Differs from both: no ε in the min-max and no ε in the norms, so the scale of w cannot
    change a pick.
    """

    name: ClassVar[str] = "idpruner"
    title: ClassVar[str] = "IDPruner"
    paper: ClassVar[str] = "https://arxiv.org/abs/2602.13315"
    venue: ClassVar[str] = "arXiv 2026"
    trained: ClassVar[bool] = True

    mmr_lambda: Annotated[
        float, Range(0, 1, 0.05, label="λ", help="1 keeps the most important tokens, 0 the most different")
    ] = 0.5
    variant: Annotated[
        Literal["paper", "code"],
        Choice(label="Form", help="code: raw scores, as released · paper: scores after the soft top-k"),
    ] = "code"

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        raw = self.raw_importance(tokens)
        if self.variant == "paper":
            raw = ops.soft_topk(raw, keep_count(tokens.n, SOFT_TOPK_RETENTION))
        importance = scaling.minmax(raw)
        return Selection(spreading.mmr(importance, tokens, budget, self.mmr_lambda), tokens.n, importance)
