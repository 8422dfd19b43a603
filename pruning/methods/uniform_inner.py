"""Uniform inside the LLM: evenly spaced among the tokens alive."""

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
class UniformInner(StagedMethod):
    """The centres of k equal parts of the row of tokens alive, at the cuts of FastV, PyramidDrop or any others."""

    name: ClassVar[str] = "uniform_inner"
    title: ClassVar[str] = "Uniform inside the LLM"
    earliest: ClassVar[int] = 0

    after: Annotated[int, Range(0, 64, 1, label="Layer K", help="layers that still process all tokens")] = 2
    cuts: Annotated[
        Literal["one", "quarters"],
        Options(label="Cuts", help="one: after layer K, as FastV · quarters: of the depth, as PyramidDrop"),
    ] = "one"

    def pick(self, seen: Seen, k: int) -> Choice:
        parts = torch.arange(k, device=seen.tokens.device)
        return Choice((2 * parts + 1) * len(seen.tokens) // (2 * k))

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        if self.cuts == "quarters" and layers > 1:
            return at_depth(QUARTERS, 4, layers)
        return ((min(self.after, layers // 4 or min(1, layers - 1)), 0.5),)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        afters = [after for after, _ in self.shape(layers)]
        return (
            (one_drop(afters[0], n, layers, retention),) if len(afters) == 1 else pyramid(afters, n, layers, retention)
        )
