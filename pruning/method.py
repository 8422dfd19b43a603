"""What a pruning method is, and the registry of all of them.

A method is a frozen dataclass whose fields are its knobs (see params.py). To add one, write one file under
`pruning/methods/` with one class under `@register`; the app, the command line, the tests and the documentation find it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Literal, TypeVar, final

import torch
from torch import Tensor

from pruning import ops
from pruning.budget import check_budget
from pruning.params import HasKnobs, params
from pruning.signals import check_signal
from pruning.tokens import Selection, VisualTokens

Stage = Literal["pre_tower", "pre_llm", "in_llm"]


@dataclass(frozen=True)
class Described(HasKnobs, ABC):
    """What every method tells of itself, wherever it prunes.

    name:   registry key            title: what a reader sees       paper: arXiv link, "" for a plain baseline
    venue:  where and when it was published, e.g. "ICCV 2025", "arXiv 2026"; "" for a plain baseline
    stage:  "pre_llm" once before the language model, "in_llm" between its layers, "pre_tower" as
            the pictures are encoded
    needs:  names of the signals that it reads; may depend on the knobs
    merges: True when kept tokens absorb others, so that the language model receives changed rows
    clips: True when it goes by what changes from frame to frame, so that a picture gives it little to choose by
    adaptation: what differs here from the published method because it could not be had or verified, one sentence that
            the app shows; "" for the published method itself
    Raises ValueError on creation when a knob is out of its range.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str] = ""
    venue: ClassVar[str] = ""
    stage: ClassVar[Stage]
    merges: ClassVar[bool] = False
    clips: ClassVar[bool] = False
    adaptation: ClassVar[str] = ""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    @property
    def source(self) -> str:
        """Its paper and where that was published: "arXiv 2403.06764, ECCV 2024"; "" for a plain baseline."""
        number = self.paper.rpartition("/")[2]
        parts = [f"arXiv {number}"] * bool(number) + [self.venue] * (not self.venue.startswith("arXiv "))
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Method(Described):
    """Chooses which visual tokens the language model receives.

    needs:  of signals.py, what `tokens` must carry
    nested: True when the picks for a smaller budget are the first picks for a larger one
    trained: True when it needs weights that were trained for the model
    compares: the signal by whose similarity it chooses, where it can do without the matrix; "" for the features
    """

    stage: ClassVar[Stage] = "pre_llm"
    nested: ClassVar[bool] = True
    trained: ClassVar[bool] = False
    compares: ClassVar[str] = ""

    @final
    def select(self, tokens: VisualTokens, budget: int) -> Selection:
        """Keep exactly `budget` of the N tokens, jointly over all images, or `limit` where that is less. Deterministic;
        the inputs stay untouched.

        Raises ValueError when the budget is not in 1..N, a needed signal is missing or misshapen, or a value is not
        finite.

        >>> from pruning import Grid
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> make("divprune").select(VisualTokens(features, (Grid(1, 2, 2),)), 2).indices.tolist()
        [0, 2]
        """
        check_budget(budget, tokens.n)
        for need in sorted(self.needs):
            check_signal(self.name, need, tokens.signal(need), tokens.n, tokens.features.shape[1])
        if not tokens.finite:
            raise ValueError(f"{self.name}: features {tuple(tokens.features.shape)} hold NaN or infinite values")
        with torch.no_grad():
            return self.pick(tokens, min(budget, self.limit(tokens)))

    def limit(self, tokens: VisualTokens) -> int:
        """The most that it keeps of these tokens, 1..N, whatever the budget: all, but where it has one of its own."""
        return tokens.n

    def reason(self, tokens: VisualTokens, token: int) -> str:
        """What it goes by with this one of `tokens`, which carry its signals, in its own words, for a reader who asks
        why it was kept or dropped; "" where score, importance and likeness say it.
        """
        return ""

    @abstractmethod
    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        """The method itself, called by `select` with a valid budget (1..N), finite features and the needed signals."""


@dataclass(frozen=True)
class ScoreMethod(Method):
    """A method that gives every token a score and keeps the highest; ties go to the lower index."""

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        scores = self.score(tokens)
        return Selection(ops.topk(scores, budget), tokens.n, scores)

    @abstractmethod
    def score(self, tokens: VisualTokens) -> Tensor:
        """(N,) float32, higher = kept first."""


R = TypeVar("R")


class Registry(MutableMapping[str, type[R]]):
    """Name -> class. The files of `pruning/methods` are imported when it is first read, and not with this module: some
    of them need what may just be importing it.
    """

    def __init__(self) -> None:
        self._registered: dict[str, type[R]] = {}

    def __getitem__(self, name: str) -> type[R]:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __setitem__(self, name: str, method: type[R]) -> None:
        self._registered[name] = method

    def __delitem__(self, name: str) -> None:
        del self._registered[name]

    def _all(self) -> dict[str, type[R]]:
        import_module("pruning.methods")
        return self._registered


METHODS: Registry[Method] = Registry()
M = TypeVar("M", bound=type[Method])
C = TypeVar("C", bound=type)


def register(cls: M) -> M:
    """Class decorator, above @dataclass(frozen=True): enter a method under its `name`.

    Raises TypeError when it is no dataclass, lacks a title, has a field that is no knob, or its name is taken.
    """
    return enter(cls, METHODS)


def enter(cls: C, registry: MutableMapping[str, Any]) -> C:
    """`register`, into any registry.

    >>> enter(METHODS["random"], {}).name
    'random'
    """
    # Looked up on the class itself: a subclass that forgot @dataclass would pass for one by inheritance.
    name = getattr(cls, "name", "")
    if "__dataclass_params__" not in vars(cls) or not name or not getattr(cls, "title", ""):
        raise TypeError(f"{cls.__name__} must be a frozen dataclass with `name` and `title`")
    if name in registry:
        raise TypeError(f"{cls.__name__}: the name {name!r} is taken by {registry[name].__name__}")
    params(cls)
    registry[name] = cls
    return cls


def make(name: str, **knobs: object) -> Method:
    """A method by its registry key. Raises ValueError listing the known methods or knobs, or a knob's own rule.

    >>> make("idpruner", mmr_lambda=0.7).mmr_lambda
    0.7
    >>> make("idpruner", mmr_lambda=7)
    Traceback (most recent call last):
        ...
    ValueError: mmr_lambda = 7 is not allowed: it must be a number from 0 to 1 (default 0.5)
    """
    return build(METHODS, "method", name, knobs)


def build(registry: Mapping[str, type[R]], what: str, name: str, knobs: Mapping[str, object]) -> R:
    """`make`, from any registry; what: the word for one of its entries.

    >>> build(METHODS, "method", "random", {"seed": 7}).seed
    7
    """
    if name not in registry:
        raise ValueError(f"unknown {what} {name!r}; known {what}s: {', '.join(sorted(registry))}")
    cls: type = registry[name]
    known = [param.name for param in params(cls)]
    unknown = sorted(set(knobs) - set(known))
    if unknown:
        raise ValueError(f"{name} has no knob {', '.join(map(repr, unknown))}; its knobs: {', '.join(known) or 'none'}")
    made: R = cls(**knobs)
    return made
