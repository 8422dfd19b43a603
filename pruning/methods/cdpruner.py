"""CDPruner: a determinantal point process conditioned on the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pruning import spreading
from pruning.importance import raw_importance, signals_for
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.params import Choice
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class CDPruner(Method):
    """The most diverse set of tokens, where a token counts by how much it has to do with the question.

    r = min-max(mean_j cos(v_i, t_j));  L = diag(r)·cos(v, v)·diag(r);  pick argmax_i det L_{S + i} (greedy MAP).
    v: projected tokens, t: the text.

    https://arxiv.org/abs/2506.10967
    variant "code": r from -cos, as in the released code, whose text and patches meet in CLIP's joint space.
    Differs from both: no ε in the min-max, so the least relevant token has no gain; tokens without gain follow by
    relevance; constant relevance leaves the picks to similarity. One budget for all tiles, where the released code
    selects per crop.
    Our adaptation: t are the language model's embeddings of the question's content words, since the models here have no
    CLIP text tower; the authors' form for such models is not released.
    """

    name: ClassVar[str] = "cdpruner"
    title: ClassVar[str] = "CDPruner"
    paper: ClassVar[str] = "https://arxiv.org/abs/2506.10967"
    venue: ClassVar[str] = "NeurIPS 2025"
    adaptation: ClassVar[str] = (
        "Relevance is the cosine to the language model's embeddings of the question's words; the paper has CLIP's text "
        "tower for it."
    )

    variant: Annotated[
        Literal["paper", "code"],
        Choice(label="Form", help="paper: relevance is the cosine · code: its negative, as released for CLIP"),
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return signals_for("relevance")

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        # The mean of the cosines to the words and the cosine to their mean differ by a factor, which min-max removes.
        cosine = raw_importance(tokens, "relevance", self.name)
        relevance = scaling.minmax(cosine if self.variant == "paper" else -cosine)
        quality = relevance if bool(relevance.any()) else relevance + 1
        return Selection(spreading.dpp(quality, tokens, budget), tokens.n, relevance)
