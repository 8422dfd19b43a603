"""The three values that travel through the project: Grid, VisualTokens, Selection.

Shape legend, used by every docstring:
    N  visual tokens of one sample (all its images together)     K  tokens kept: the budget
    D  width of the language model                               (t, gh, gw)  merged grid of one image or video

Nothing here knows a model or a method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from pruning.ops import cosine_similarity


@dataclass(frozen=True)
class Grid:
    """Where one image or video lies in the N tokens: `t` frames of `gh` x `gw` tokens in raster order from `start`."""

    t: int
    gh: int
    gw: int
    start: int = 0

    def __post_init__(self) -> None:
        if min(self.t, self.gh, self.gw) < 1 or self.start < 0:
            raise ValueError(f"{self} is not a grid: t, gh, gw must be at least 1 and start at least 0")

    @property
    def count(self) -> int:
        return self.t * self.gh * self.gw

    @property
    def stop(self) -> int:
        return self.start + self.count


@dataclass(frozen=True, eq=False)
class VisualTokens:
    """One sample as the language model would receive it.

    features: (N, D) float32, after the projector / merger; several images follow each other
    grids:    one per image or video; together they cover 0..N without gap or overlap, in order
    signals:  what a method asked for by name, e.g. "scorer" (N,), "question" (M, D)
    Raises ValueError when shapes, dtype or grids disagree.
    """

    features: Tensor
    grids: tuple[Grid, ...]
    signals: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        features = self.features
        if features.ndim != 2 or features.dtype != torch.float32 or 0 in features.shape:
            raise ValueError(
                f"features must be a non-empty (N, D) float32 tensor, not {tuple(features.shape)} {features.dtype}"
            )
        stop = 0
        for grid in self.grids:
            if grid.start != stop:
                raise ValueError(f"{grid} must start at {stop}, where the grid before it ends")
            stop = grid.stop
        if stop != self.n:
            raise ValueError(f"the grids {self.grids} cover {stop} tokens but features have {self.n} rows")
        object.__setattr__(self, "signals", MappingProxyType(dict(self.signals)))

    @property
    def n(self) -> int:
        return self.features.shape[0]

    @cached_property
    def similarity(self) -> Tensor:
        """(N, N) float32 cosine similarity of the features; computed on first use and kept with the tokens.

        Read it, never write to it: every method and metric on this sample shares it.
        """
        return cosine_similarity(self.features)

    @cached_property
    def finite(self) -> bool:
        """Whether the features hold neither NaN nor infinite values; looked at once."""
        return bool(torch.isfinite(self.features).all())

    def signal(self, name: str) -> Tensor:
        """The signal of that name. Raises ValueError naming it and what there is."""
        if name not in self.signals:
            there = ", ".join(sorted(self.signals)) or "none"
            raise ValueError(
                f"signal {name!r} is missing (there is: {there}); ask the model for it with needs={{{name!r}}}, "
                "or choose a method or importance source that the model supports"
            )
        found: Tensor = self.signals[name]
        return found

    def with_signals(self, signals: Mapping[str, Any] | None = None, **more: Any) -> VisualTokens:
        """The same tokens with further signals (same names are replaced). What was computed of the features is kept."""
        result = replace(self, signals={**self.signals, **(signals or {}), **more})
        for computed in ("similarity", "finite"):
            if computed in self.__dict__:
                result.__dict__[computed] = self.__dict__[computed]
        return result


@dataclass(frozen=True, eq=False)
class Selection:
    """Which K of N tokens stay.

    order:      (K,) int64, unique, in pick order; the model is fed `indices`, never this
    n:          N
    scores:     (N,) what the heat map shows, or None
    merge_into: (N,) int64, the kept token that absorbs each token, -1 = dropped, or None for pure selection
    Raises ValueError when an index is out of range or occurs twice, or a shape is wrong.
    """

    order: Tensor
    n: int
    scores: Tensor | None = None
    merge_into: Tensor | None = None

    def __post_init__(self) -> None:
        order = self.order
        if order.ndim != 1 or order.dtype != torch.int64 or not 1 <= len(order) <= self.n:
            raise ValueError(
                f"order must be (K,) int64 with 1 <= K <= {self.n}, not {tuple(order.shape)} {order.dtype}"
            )
        ascending = self.indices
        if ascending[0] < 0 or ascending[-1] >= self.n or bool((ascending[1:] == ascending[:-1]).any()):
            raise ValueError(f"order must hold distinct indices within 0..{self.n - 1}, not {order.tolist()}")
        for name, value in (("scores", self.scores), ("merge_into", self.merge_into)):
            if value is not None and value.shape != (self.n,):
                raise ValueError(f"{name} must be ({self.n},), not {tuple(value.shape)}")

    @property
    def k(self) -> int:
        return len(self.order)

    @cached_property
    def indices(self) -> Tensor:
        """(K,) int64 ascending: the kept tokens at their original places."""
        return self.order.sort().values

    @property
    def mask(self) -> Tensor:
        """(N,) bool, True where kept."""
        mask = torch.zeros(self.n, dtype=torch.bool, device=self.order.device)
        mask[self.order] = True
        return mask

    def prefix(self, k: int) -> Selection:
        """The first k picks. For a nested method this is its selection for budget k.

        Raises ValueError when k is not in 1..K, or when tokens were merged (a shorter prefix would merge otherwise).
        """
        if not 1 <= k <= self.k:
            raise ValueError(f"prefix of {k} tokens is not allowed: the selection has {self.k}")
        if self.merge_into is not None and k < self.k:
            raise ValueError("a selection that merges tokens has no prefix: select again with the smaller budget")
        return replace(self, order=self.order[:k])
