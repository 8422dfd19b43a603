"""What a method is that prunes between the layers of the language model, and the registry of all of them.

A staged method is two things: a rule that ranks the tokens alive at a cut, and a schedule that says where its cuts lie
and how many tokens stay at each. They have a registry of their own, beside METHODS: whoever takes a method of METHODS
calls `select` once before the language model, and a staged method has none. To add one, write one file under
`pruning/methods/` with one class under `@register_staged`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, TypeVar, final

import torch
from torch import Tensor

from pruning import ops
from pruning.budget import check_budget, check_retention
from pruning.method import Described, Registry, Stage, build, enter
from pruning.ops.scaling import all_finite
from pruning.schedules import equivalent, scaled
from pruning.seen import Choice, Seen, tensors_of


@dataclass(frozen=True)
class StagedMethod(Described):
    """Chooses, between layers of the language model, which visual tokens the later layers still process.

    needs: names of SIGNALS that the rule reads at a cut; nothing else is computed
    earliest: layers that must have run before its first cut
    images: images that it needs at least
    first: key of the method that chooses what enters the language model, "" = everything does
    drops_all: True when a cut may leave no token
    trained: True when it needs weights that were trained for the model, `modules`
    all_or_none: True when a cut is asked to leave none, and leaves all where what it sees speaks against it
    """

    stage: ClassVar[Stage] = "in_llm"
    earliest: ClassVar[int] = 1
    images: ClassVar[int] = 1
    first: ClassVar[str] = ""
    drops_all: ClassVar[bool] = False
    trained: ClassVar[bool] = False
    all_or_none: ClassVar[bool] = False

    @property
    def modules(self) -> frozenset[str]:
        """Of `needs`, the trained modules that the model must have."""
        return self.needs & {self.name} if self.trained else frozenset()

    @final
    def choose(self, seen: Seen, k: int) -> Choice:
        """Keep exactly `k` of the A tokens alive. Deterministic; what is seen stays untouched.

        Raises ValueError when k is not in 1..A (0..A for what drops all), or a signal is missing or holds NaN or
        infinite values.
        """
        if k or isinstance(k, bool) or not self.drops_all:
            check_budget(k, len(seen.tokens))
        for name in sorted(self.needs):
            if name not in seen.signals:
                raise ValueError(f"{self.name}: signal {name!r} is missing after layer {seen.after}")
            if not all(map(all_finite, tensors_of(seen.signals[name]))):
                raise ValueError(f"{self.name}: signal {name!r} holds NaN or infinite values after layer {seen.after}")
        with torch.no_grad():
            return self.pick(seen, k)

    def renumbers(self, axes: int) -> bool:
        """Whether what stays after its cut is numbered anew, without gaps, in the layers that follow, as some releases
        do; axes: 1, or 3 of a model with M-RoPE.
        """
        return False

    @final
    def too_few(self, images: int) -> str:
        """Why its rule cannot work on so many images; "" where it can."""
        if images >= self.images:
            return ""
        return f"{self.title} needs at least {self.images} images, not {images}: earlier ones are its examples"

    @abstractmethod
    def pick(self, seen: Seen, k: int) -> Choice:
        """The rule itself, called by `choose` with a valid k and finite signals."""

    @abstractmethod
    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        """The published schedule in a model of L >= 2 layers: (layers that have run, share of N kept), in order;
        empty where the model has too few.

        After 0 layers stands what enters, where a method of its own (`first`) chooses that.
        """

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        """Tokens that stay at each cut of `shape`, for the nearest equivalent retention in 0..1 that can be reached.

        Unless a method has its own way, the published shares keep their proportions.
        """
        afters, shares = zip(*self.shape(layers), strict=True)
        return scaled(shares, afters, n, layers, retention)

    @final
    def reach(self, n: int, layers: int) -> tuple[float, float, str]:
        """The least and the most equivalent retention below 1 that its cuts come to with n tokens in a model of L
        layers, and what bounds it; 1 without cuts.
        """
        cuts = self.shape(layers) if layers > self.earliest else ()
        afters = [after for after, _ in cuts]
        least, most = (equivalent(afters, self.counts(n, layers, end), n, layers) if cuts else 1.0 for end in (0, 1))
        inside = [after for after in afters if after]
        return (
            least,
            most,
            f"its first cut is after {inside[0]} of {layers} layers" if inside else f"there are only {layers} layers",
        )

    @final
    def schedule(self, n: int, layers: int, retention: float | None = None) -> tuple[tuple[int, int], ...]:
        """(layers that have run, tokens that stay) of every cut, for an equivalent retention; None: as published.

        Empty at a retention of 1. Raises ValueError naming the reachable range when the retention is out of it.
        """
        if retention is not None and check_retention(retention) == 1:
            return ()
        cuts = self.shape(layers) if layers > self.earliest else ()
        afters = [after for after, _ in cuts]
        least, most, why = self.reach(n, layers)
        slack = 0.5 / (n * layers)
        if not cuts or (retention is not None and not least - slack <= retention <= most + slack):
            raise ValueError(self._beyond(n, retention, afters, least, most, why))
        if retention is None:
            counts = [max(int(share > 0), int(n * share + 1e-9)) for _, share in cuts]
        else:
            counts = list(self.counts(n, layers, retention))
        return tuple(zip(afters, counts, strict=True))

    def _beyond(
        self, n: int, retention: float | None, afters: Sequence[int], least: float, most: float, why: str
    ) -> str:
        inside = [after for after in afters if after]
        above = retention is not None and retention > most
        plan = f"the plan 'pre:METHOD:SHARE,{inside[0] if inside else 1}:{self.name}:SHARE'"
        return (
            f"{self.title} cannot come to an equivalent retention of "
            f"{'its schedule' if retention is None else f'{retention:g}'}: {why}, so {n} visual tokens "
            f"reach {least:.3f} to {most:.3g}. "
            + ("Ask for less, or for all: 1" if above else f"Ask for more, or let fewer tokens enter: {plan}")
        )


@dataclass(frozen=True)
class StagedScore(StagedMethod):
    """A staged method that gives every token alive a score and keeps the highest; ties go to the lower index."""

    @property
    def scored_by(self) -> frozenset[str]:
        """What `score` alone reads."""
        return self.needs

    def pick(self, seen: Seen, k: int) -> Choice:
        scores = self.score(seen)
        return Choice(ops.topk(scores, k) if k else seen.tokens[:0], scores)

    @abstractmethod
    def score(self, seen: Seen) -> Tensor:
        """(A,) float32, higher = kept first."""


STAGED: Registry[StagedMethod] = Registry()
S = TypeVar("S", bound=type[StagedMethod])


def register_staged(cls: S) -> S:
    """Class decorator, above @dataclass(frozen=True): enter it under its `name`. TypeError as `register`."""
    return enter(cls, STAGED)


def make_staged(name: str, **knobs: object) -> StagedMethod:
    """A staged method by its key. Raises ValueError listing the known ones or their knobs, or a knob's own rule."""
    return build(STAGED, "staged method", name, knobs)


def alive_of(cuts: Sequence[tuple[int, int]], n: int, layers: int) -> tuple[int, ...]:
    """(L,) visual tokens that each layer processes, from (layers that have run, tokens that stay)."""
    bounds = [0, *(after for after, _ in cuts), layers]
    counts = [n, *(count for _, count in cuts)]
    return tuple(c for c, (start, stop) in zip(counts, pairwise(bounds), strict=True) for _ in range(stop - start))
