"""Random inside the LLM: the baseline that a rule between layers has to beat; where both baselines cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch

from pruning.params import Choice as Options
from pruning.params import Range
from pruning.schedules import QUARTERS, at_depth, pyramid
from pruning.seen import Choice, Seen
from pruning.staged import StagedMethod, register_staged


@dataclass(frozen=True)
class Control(StagedMethod):
    """A baseline at the cut of FastV, those of PyramidDrop or any other."""

    earliest: ClassVar[int] = 0

    after: Annotated[int, Range(0, 64, 1, label="Layer K", help="layers that still process all tokens")] = 2
    cuts: Annotated[
        Literal["one", "quarters"],
        Options(label="Cuts", help="one: after layer K, as FastV · quarters: of the depth, as PyramidDrop"),
    ] = "one"

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        if self.cuts == "quarters" and layers > 1:
            return at_depth(QUARTERS, 4, layers)
        return ((min(self.after, layers // 4 or min(1, layers - 1)), 0.5),)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        return pyramid([after for after, _ in self.shape(layers)], n, layers, retention)


@register_staged
@dataclass(frozen=True)
class RandomInner(Control):
    """Tokens drawn without replacement. The same seed and N draw the same tokens."""

    name: ClassVar[str] = "random_inner"
    title: ClassVar[str] = "Random inside the LLM"

    seed: Annotated[int, Range(0, 9999, 1, label="Seed", help="another seed draws other tokens")] = 0

    def pick(self, seen: Seen, k: int) -> Choice:
        order = torch.randperm(seen.n, generator=torch.Generator().manual_seed(self.seed))
        rank = order.argsort().to(seen.tokens.device)[seen.tokens]  # of every token among all, so that cuts are nested
        return Choice(rank.argsort()[:k])
