"""Random inside the LLM: the baseline that a rule between layers has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch

from pruning.params import Choice as Options
from pruning.params import Range
from pruning.schedules import QUARTERS, at_depth, one_drop, pyramid
from pruning.staged import Choice, Seen, StagedMethod, register_staged


@register_staged
@dataclass(frozen=True)
class RandomInner(StagedMethod):
    """Tokens drawn without replacement, at the cut of FastV, those of PyramidDrop or any other.

    The same seed and N draw the same tokens.
    """

    name: ClassVar[str] = "random_inner"
    title: ClassVar[str] = "Random inside the LLM"
    earliest: ClassVar[int] = 0

    after: Annotated[int, Range(0, 64, 1, label="Layer K", help="layers that still process all tokens")] = 2
    cuts: Annotated[
        Literal["one", "quarters"],
        Options(label="Cuts", help="one: after layer K, as FastV · quarters: of the depth, as PyramidDrop"),
    ] = "one"
    seed: Annotated[int, Range(0, 9999, 1, label="Seed", help="another seed draws other tokens")] = 0

    def pick(self, seen: Seen, k: int) -> Choice:
        order = torch.randperm(seen.n, generator=torch.Generator().manual_seed(self.seed))
        rank = order.argsort().to(seen.tokens.device)[seen.tokens]  # of every token among all, so that cuts are nested
        return Choice(rank.argsort()[:k])

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        if self.cuts == "quarters" and layers > 1:
            return at_depth(QUARTERS, 4, layers)
        return ((min(self.after, layers // 4 or min(1, layers - 1)), 0.5),)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        afters = [after for after, _ in self.shape(layers)]
        return (
            (one_drop(afters[0], n, layers, retention),) if len(afters) == 1 else pyramid(afters, n, layers, retention)
        )
