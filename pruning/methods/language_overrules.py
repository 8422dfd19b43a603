"""When Language Overrules: top-k of the CLS attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.method import ScoreMethod, register
from pruning.tokens import VisualTokens

ATTENTION = "vision_attention@-2"


@register
@dataclass(frozen=True)
class LanguageOverrules(ScoreMethod):
    """Keep the K tokens to which CLS attends most; fewer visual tokens weigh more each against the text.

    s_i = attention CLS -> i, mean over heads;  S = top-K of s. The rule is FasterVLM's.

    https://arxiv.org/abs/2508.10552
    Our adaptation: the paper leaves the layer open; it is the last but one here, as in FasterVLM's released code.
    """

    name: ClassVar[str] = "language_overrules"
    title: ClassVar[str] = "When Language Overrules"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.10552"
    venue: ClassVar[str] = "arXiv 2025"
    adaptation: ClassVar[str] = "The paper does not say which vision layer it reads; here it is the last but one."

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({ATTENTION})

    def score(self, tokens: VisualTokens) -> Tensor:
        return tokens.signal(ATTENTION).float()
