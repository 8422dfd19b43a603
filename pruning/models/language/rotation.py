"""Rotations at other positions than a pass came with: where a release numbers what is left anew between layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Call:
    """How a decoder asked its rotary module for a pair (cos, sin), each (B or 1, n, d)."""

    module: Any
    args: tuple[Any, ...]
    named: Mapping[str, Any]
    pair: Pair

    @property
    def positions(self) -> Tensor:
        """(B or 1, n), or (3, B or 1, n) with M-RoPE: what it was asked for."""
        given: Tensor = self.named["position_ids"] if "position_ids" in self.named else self.args[1]
        return given

    def at(self, positions: Tensor, device: torch.device) -> Pair:
        """The pair at other positions, of the same axes."""
        positions = positions.to(self.positions.device)
        args, named = self.args, dict(self.named)
        if "position_ids" in named:
            named["position_ids"] = positions
        else:
            args = (args[0], positions, *args[2:])
        cos, sin = self.module.forward(*args, **named)  # past the hook that notes the decoder's own calls
        return cos.to(device), sin.to(device)


class Rotation:
    """The calls of one pass. Families whose layers turn in different ways make one for each."""

    def __init__(self, model: Any):
        self._module = model.get_decoder().rotary_emb
        self._calls = list[Call]()

    def hooks(self) -> Iterator[tuple[Any, Any]]:
        """(module, forward hook) that notes them."""
        yield self._module, lambda *given: self._calls.append(Call(*given))

    def call(self, pair: Pair) -> Call:
        """The one that gave a layer this pair, perhaps on another device."""
        alike = (each for each in self._calls if torch.equal(each.pair[0].to(pair[0].device), pair[0]))
        return self._calls[0] if len(self._calls) == 1 else next(alike)
