"""What a method is that prunes between the layers of the language model, and the registry of all of them.

A staged method is two things: a rule that ranks the tokens alive at a cut, and a schedule that says where its cuts lie
and how many tokens stay at each. They have a registry of their own, beside METHODS: whoever takes a method of METHODS
calls `select` once before the language model, and a staged method has none. To add one, write one file under
`pruning/methods/` with one class under `@register_staged`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, TypeVar, final

import torch
from torch import Tensor

from pruning import ops
from pruning.budget import check_budget, check_retention
from pruning.method import Registry, Stage, build, enter
from pruning.ops.scaling import all_finite
from pruning.params import HasKnobs
from pruning.schedules import equivalent

SIGNALS: dict[str, str] = {
    "last_attention": "(H, R) attention of the prompt's last token in the layer before the cut",
    "text_attention": "(H, T, R) attention of the text after the images in the layer before the cut",
    "next_last_attention": "(H, R) of the last token, by the weights of the layer after the cut",
    "next_text_attention": "(H, T, R) of the text after the images, by the weights of the layer after the cut",
    "keys": "(R, G·d) rotated keys of the layer before the cut",
    "hidden": "(R, D) hidden states at the cut",
    "normed": "(R, D) hidden states at the cut, after the language model's final norm",
    "embeddings": "the language model's input: ((K, D) of all visual tokens that entered, (T, D) of the text)",
    "transitions": "what every layer so far did to its tokens, a sequence of Transition",
}
"""What a rule may ask for by name. Attention is after the softmax over all R keys; values are float32."""


@dataclass(frozen=True, eq=False)
class Transition:
    """What attention (0) and MLP (1) of one layer did to each of its tokens.

    rows: (R,) places of its tokens in the prompt. ratio: (2, R) norm of what the module adds to a token over the norm
    of what it was given. cosine: (2, R) cosine of the two.
    """

    layer: int
    rows: Tensor
    ratio: Tensor
    cosine: Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """What stands at a cut, and what the rule asked to see of it.

    after:  layers that have run; the cut lies before layer `after`, counted from 0
    layers: L                            n: N, visual tokens of the unpruned sample
    tokens: (A,) int64, ascending: which of the N are alive
    rows:   (R,) int64, ascending: the place in the prompt of everything alive, text included
    visual: (A,) int64: where in `rows` each alive token stands
    text:   (T,) int64: where in `rows` the text after the images stands, T >= 1
    """

    after: int
    layers: int
    n: int
    tokens: Tensor
    rows: Tensor
    visual: Tensor
    text: Tensor
    signals: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Choice:
    """What a rule keeps of A tokens: (k,) int64 indices into `Seen.tokens`, in pick order.

    scores: (A,) float32, what it ranked by, or None. merged: (c,) indices into `Seen.tokens`, all kept, whose hidden
    states become `merged_rows` (c, D); None where the rule only selects.
    """

    order: Tensor
    scores: Tensor | None = None
    merged: Tensor | None = None
    merged_rows: Tensor | None = None


@dataclass(frozen=True)
class StagedMethod(HasKnobs, ABC):
    """Chooses, between layers of the language model, which visual tokens the later layers still process.

    name, title, paper, venue, adaptation: as for `Method`
    earliest: layers that must have run before its first cut
    needs: names of SIGNALS that the rule reads at a cut; nothing else is computed
    Raises ValueError on creation when a knob is out of its range.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str] = ""
    venue: ClassVar[str] = ""
    stage: ClassVar[Stage] = "in_llm"
    merges: ClassVar[bool] = False
    earliest: ClassVar[int] = 1
    adaptation: ClassVar[str] = ""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    @final
    def choose(self, seen: Seen, k: int) -> Choice:
        """Keep exactly `k` of the A tokens alive. Deterministic; what is seen stays untouched.

        Raises ValueError when k is not in 1..A, or a signal is missing or holds NaN or infinite values.
        """
        check_budget(k, len(seen.tokens))
        for name in sorted(self.needs):
            if name not in seen.signals:
                raise ValueError(f"{self.name}: signal {name!r} is missing after layer {seen.after}")
            value = seen.signals[name]
            tensors = [value] if isinstance(value, Tensor) else [t for t in value if isinstance(t, Tensor)]
            if not all(map(all_finite, tensors)):
                raise ValueError(f"{self.name}: signal {name!r} holds NaN or infinite values after layer {seen.after}")
        with torch.no_grad():
            return self.pick(seen, k)

    @abstractmethod
    def pick(self, seen: Seen, k: int) -> Choice:
        """The rule itself, called by `choose` with a valid k and finite signals."""

    @abstractmethod
    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        """The published schedule in a model of L >= 2 layers: (layers that have run, share of N kept), in order."""

    @abstractmethod
    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        """Tokens that stay at each cut of `shape`, for an equivalent retention that can be reached."""

    @final
    def schedule(self, n: int, layers: int, retention: float | None = None) -> tuple[tuple[int, int], ...]:
        """(layers that have run, tokens that stay) of every cut, for an equivalent retention; None: as published.

        Empty at a retention of 1. Raises ValueError naming the reachable range when the retention is out of it.
        """
        if retention is not None and check_retention(retention) == 1:
            return ()
        cuts = self.shape(layers) if layers > self.earliest else ()
        afters = [after for after, _ in cuts]
        lowest = equivalent(afters, [1] * len(cuts), n, layers)
        if not cuts or (retention is not None and retention < lowest - 0.5 / (n * layers)):
            first = f"its first cut is after {afters[0]} of {layers}" if cuts else f"there are only {layers}"
            raise ValueError(
                f"{self.title} cannot come to an equivalent retention of "
                f"{'its schedule' if retention is None else f'{retention:g}'}: {first} layers, so {n} visual tokens "
                f"reach {lowest:.3f} to 1. Ask for more, or let fewer tokens enter: the plan "
                f"'pre:METHOD:SHARE,{afters[0] if cuts else 1}:{self.name}:SHARE'"
            )
        if retention is None:
            counts = [max(1, int(n * share + 1e-9)) for _, share in cuts]
        else:
            counts = list(self.counts(n, layers, retention))
        return tuple(zip(afters, counts, strict=True))


@dataclass(frozen=True)
class StagedScore(StagedMethod):
    """A staged method that gives every token alive a score and keeps the highest; ties go to the lower index."""

    def pick(self, seen: Seen, k: int) -> Choice:
        scores = self.score(seen)
        return Choice(ops.topk(scores, k), scores)

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
