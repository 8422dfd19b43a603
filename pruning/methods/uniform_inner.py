"""Uniform inside the LLM: evenly spaced among the tokens alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pruning.methods.random_inner import Control
from pruning.seen import Choice, Seen
from pruning.staged import register_staged


@register_staged
@dataclass(frozen=True)
class UniformInner(Control):
    """The centres of k equal parts of the row of tokens alive."""

    name: ClassVar[str] = "uniform_inner"
    title: ClassVar[str] = "Uniform inside the LLM"

    def pick(self, seen: Seen, k: int) -> Choice:
        parts = torch.arange(k, device=seen.tokens.device)
        return Choice((2 * parts + 1) * len(seen.tokens) // (2 * k))
