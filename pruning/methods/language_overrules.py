"""When Language Overrules: top-k of the CLS attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from pruning.method import ScoreMethod, register
from pruning.params import Range
from pruning.tokens import VisualTokens


@register
@dataclass(frozen=True)
class LanguageOverrules(ScoreMethod):
    """Keep the K tokens to which CLS attends most; fewer visual tokens weigh more each against the text.

    s_i = attention CLS -> i, mean over heads;  S = top-K of s. The rule is FasterVLM's.

    https://arxiv.org/abs/2508.10552
    Our adaptation: the paper leaves the layer open; it is the last here, and -2 in FasterVLM's code for LLaVA.
    """

    name: ClassVar[str] = "language_overrules"
    title: ClassVar[str] = "When Language Overrules"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.10552"
    venue: ClassVar[str] = "arXiv 2025"
    adaptation: ClassVar[str] = "The paper does not say which vision layer it reads; here it is the last."

    layer: Annotated[int, Range(-2, -1, 1, label="Layer", help="vision layer, counted from the end")] = -1

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"vision_attention@{self.layer}"})

    def score(self, tokens: VisualTokens) -> Tensor:
        return tokens.signal(f"vision_attention@{self.layer}").float()
