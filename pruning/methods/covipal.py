"""CoViPAL: top-k of a trained module that reads visual tokens and words together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.method import ScoreMethod, register
from pruning.tokens import VisualTokens


@register
@dataclass(frozen=True)
class CoViPAL(ScoreMethod):
    """Keep the K tokens to which a trained module gives the highest score, from all visual tokens and the question.

    The module first learns what a deeper layer of the language model attends to, then what keeps the answers right.

    https://arxiv.org/abs/2508.17243
    An adaptation: the paper leaves the module's layers, its losses' weights and its data open. Here one block of a
    quarter of the model's width reads features and embeddings of the question's content words, before the first layer;
    see `pruning.models.trained` and `pruning.training.pruners`.
    """

    name: ClassVar[str] = "covipal"
    title: ClassVar[str] = "CoViPAL"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.17243"
    venue: ClassVar[str] = "EMNLP Findings 2025"
    trained: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Layers and losses' weights are guesses, as the paper leaves them open; it reads the question's content words."
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"covipal"})

    def score(self, tokens: VisualTokens) -> Tensor:
        return tokens.signal("covipal")
