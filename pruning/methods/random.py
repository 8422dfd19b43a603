"""Random: the baseline that a published method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from pruning.method import Method, register
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class Random(Method):
    """K tokens drawn without replacement; the same seed and N give the same picks on every device."""

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "Random"

    seed: Annotated[int, Range(0, 9999, 1, label="Seed", help="another seed draws other tokens")] = 0

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        order = torch.randperm(tokens.n, generator=torch.Generator().manual_seed(self.seed))
        return Selection(order[:budget].to(tokens.features.device), tokens.n)
