"""The two values that travel through the project: VisualTokens, what there is, and Selection, what stays of it.

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

from pruning.grids import SCOPES, Grid, parts
from pruning.ops.scaling import all_finite, cosine_similarity
from pruning.signals import COMPARED, part_of_signal


@dataclass(frozen=True, eq=False)
class VisualTokens:
    """One sample as the language model would receive it.

    features: (N, D) float32, after the projector / merger; several images follow each other
    grids:    one per image, video or tile; together they cover 0..N without gap or overlap, in order
    signals:  what a method asked for by name, e.g. "scorer" (N,), "question" (M, D); all of them in signals.py
    Raises ValueError when shapes, dtype or grids disagree.

    >>> tokens = VisualTokens(torch.eye(6), (Grid(1, 2, 3),), {"scorer": torch.arange(6.0)})
    >>> tokens.n, tokens.similarity[0, :2].tolist(), tokens.signal("scorer")[5].item()
    (6, [1.0, 0.0], 5.0)
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

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled, and what was computed of the features need not be.
        return VisualTokens, (self.features, self.grids, dict(self.signals))

    @property
    def n(self) -> int:
        return self.features.shape[0]

    @property
    def similarity(self) -> Tensor:
        """(N, N) float32 cosine similarity of the features; computed on first use and kept with the tokens.

        Read it, never write to it: every method and metric on this sample shares it.
        """
        return self._compared("features", self.features)

    @property
    def has_similarity(self) -> bool:
        """Whether `similarity` is there already."""
        return self._has_compared("features", self.features)

    def similarity_of(self, name: str) -> Tensor:
        """(N, N) float32 cosine similarity by a signal (N, ...), all its values of a token in one row; kept as above.

        Raises ValueError for a signal that is missing, or of a kind that is not in `signals.COMPARED`.
        """
        if not _is_compared(name):
            raise ValueError(f"tokens are not compared by {name!r}: name its kind in signals.COMPARED, to be weighed")
        return self._compared(name, self.signal(name))

    def has_similarity_of(self, name: str) -> bool:
        """Whether `similarity_of` a signal is there already. Raises ValueError for a signal that is missing."""
        return self._has_compared(name, self.signal(name))

    @property
    def compared(self) -> list[Tensor]:
        """What the tokens have been compared by so far: the features, signals."""
        return [values for values, _ in self._similarities.values()]

    def _compared(self, name: str, values: Tensor) -> Tensor:
        if not self._has_compared(name, values):
            self._similarities[name] = (values, cosine_similarity(values.flatten(1)))
        return self._similarities[name][1]

    def _has_compared(self, name: str, values: Tensor) -> bool:
        known = self._similarities.get(name)
        return known is not None and known[0] is values

    @cached_property
    def _similarities(self) -> dict[str, tuple[Tensor, Tensor]]:
        # Name -> what was compared, and its similarity. One dictionary for these tokens and all that `with_signals`
        # makes of them: what one of them computes is there for the others.
        return {}

    def part(self, grids: tuple[Grid, ...]) -> VisualTokens:
        """The tokens of neighbouring grids as a sample of their own, signals included; made once, like its similarity.

        Features and signals are views of these.
        """
        start, stop = grids[0].start, grids[-1].stop
        if (start, stop) not in self._parts:
            signals = {name: part_of_signal(name, value, slice(start, stop)) for name, value in self.signals.items()}
            moved = tuple(replace(grid, start=grid.start - start) for grid in grids)
            self._parts[start, stop] = VisualTokens(self.features[start:stop], moved, signals)
        return self._parts[start, stop]

    @cached_property
    def _parts(self) -> dict[tuple[int, int], VisualTokens]:
        return {}

    @property
    def nbytes(self) -> int:
        """Bytes of features and signals, and of every similarity that these and their parts may come to: what a cache
        counts, which weighs a value once, before a method has compared anything.
        """
        tensors = [self.features, *(value for value in self.signals.values() if isinstance(value, Tensor))]
        spans = {(part[0].start, part[-1].stop) for per in SCOPES for part in parts(self.grids, per)}
        entries = (1 + sum(map(_is_compared, self.signals))) * sum((stop - start) ** 2 for start, stop in spans)
        return sum(t.numel() * t.element_size() for t in tensors) + 4 * entries

    @cached_property
    def pictures(self) -> Tensor:
        """(N,) int64: the number, from 0 and rising, of the picture that each token belongs to.

        A picture is what vision attention stays inside: a whole image, a tile, a thumbnail or one frame of a video.
        """
        sizes = [grid.gh * grid.gw for grid in self.grids for _ in range(grid.t)]
        return torch.repeat_interleave(torch.tensor(sizes, device=self.features.device))

    @cached_property
    def images(self) -> Tensor:
        """(N,) int64: which of the sample's images each token shows, all tiles and frames of an image alike."""
        numbers = torch.tensor([grid.image for grid in self.grids], device=self.features.device)
        return numbers.repeat_interleave(torch.tensor([grid.count for grid in self.grids], device=numbers.device))

    @cached_property
    def finite(self) -> bool:
        """Whether the features hold neither NaN nor infinite values; looked at once."""
        return all_finite(self.features)

    def signal(self, name: str) -> Any:
        """The signal of that name: a tensor, for "projector" a function. Raises ValueError naming what there is."""
        if name not in self.signals:
            there = ", ".join(sorted(self.signals)) or "none"
            raise ValueError(
                f"signal {name!r} is missing (there is: {there}); ask the model for it with needs={{{name!r}}}, "
                "or choose a method or importance source that the model supports"
            )
        return self.signals[name]

    def with_signals(self, signals: Mapping[str, Any] | None = None, **more: Any) -> VisualTokens:
        """The same tokens with further signals (same names are replaced). What was computed of these is kept, and what
        either of the two computes from now on, the other has too.
        """
        result = replace(self, signals={**self.signals, **(signals or {}), **more})
        result.__dict__["_similarities"] = self._similarities
        if "finite" in self.__dict__:
            result.__dict__["finite"] = self.finite
        return result


def _is_compared(signal: str) -> bool:
    return signal.partition("@")[0] in COMPARED


@dataclass(frozen=True, eq=False)
class Selection:
    """Which K of N tokens stay.

    order:      (K,) int64, unique, in pick order; the model is fed `indices`, never this
    n:          N
    scores:     (N,) what the heat map shows, or None
    merge_into: (N,) int64, the kept token that absorbs each token (a kept one absorbs itself), -1 = dropped, or None
                for pure selection
    rows:       (K, D) float32 in pick order, what the language model receives at the kept places where tokens were
                merged; None = the features as they are. Given together with merge_into.
    Raises ValueError when an index is out of range or occurs twice, or a shape is wrong.

    >>> selection = Selection(torch.tensor([5, 0, 3]), n=6)
    >>> selection.k, selection.indices.tolist(), selection.prefix(2).indices.tolist()
    (3, [0, 3, 5], [0, 5])
    """

    order: Tensor
    n: int
    scores: Tensor | None = None
    merge_into: Tensor | None = None
    rows: Tensor | None = None

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
        if (self.rows is None) != (self.merge_into is None):
            raise ValueError("a selection that merges has both merge_into and rows, one that does not has neither")
        if self.rows is not None and self.merge_into is not None:
            self._check_merge(self.rows, self.merge_into)

    def _check_merge(self, rows: Tensor, merge_into: Tensor) -> None:
        if rows.ndim != 2 or len(rows) != self.k or rows.dtype != torch.float32:
            raise ValueError(f"rows must be ({self.k}, D) float32, not {tuple(rows.shape)} {rows.dtype}")
        if not torch.equal(merge_into[self.order], self.order) or not bool(torch.isin(merge_into, self._targets).all()):
            raise ValueError("merge_into must hold kept tokens or -1, and each kept token must absorb itself")

    @property
    def _targets(self) -> Tensor:
        return torch.cat([self.order, self.order.new_tensor([-1])])

    @property
    def k(self) -> int:
        return len(self.order)

    @cached_property
    def indices(self) -> Tensor:
        """(K,) int64 ascending: the kept tokens at their original places."""
        return self.order.sort().values

    @cached_property
    def merged(self) -> Tensor | None:
        """(K, D) float32 in the order of `indices`: `rows` as the model is fed them; None where nothing was merged."""
        return None if self.rows is None else self.rows[self.order.argsort()]

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
