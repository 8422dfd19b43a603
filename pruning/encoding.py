"""What a method is that asks for another encoding of the pictures, and the registry of all of them.

Such a method chooses nothing among the tokens: it says how the pictures are to be encoded instead, and all tokens of
that encoding enter the language model. So it saves work of the vision tower too. It has a registry of its own, beside
METHODS and STAGED, since it has no `select`. To add one, write one file under `pruning/methods/` with one class under
`@register_encoding`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeVar

from pruning.budget import check_budget, keep_count
from pruning.grids import SCOPES, Scope
from pruning.method import Described, Registry, Stage, build, enter
from pruning.tokens import VisualTokens

Axis = Literal["resolution", "frames"]
RESOLUTION: Axis = "resolution"
"""What a model offers whose visual tokens become fewer with a smaller picture, by its processor's own options."""
FRAMES: Axis = "frames"
"""What a model offers that takes clips: their visual tokens become fewer with fewer frames."""


class OutOfReachError(ValueError):
    """The model has no encoding of these pictures such as is asked for. The message says what it has, or the remedy."""


@dataclass(frozen=True)
class Encoding:
    """What is asked of the model: the same pictures with at most `most` visual tokens in all, as many as come nearest.

    axis: of what there is less: "resolution" of pictures, "frames" of clips. Raises ValueError unless `most` is a whole
    number of at least 1.
    """

    most: int
    axis: Axis = RESOLUTION

    def __post_init__(self) -> None:
        if isinstance(self.most, bool) or not isinstance(self.most, int) or self.most < 1:
            raise ValueError(f"an encoding of {self.most!r} tokens is not allowed: it must be a whole number from 1")


@dataclass(frozen=True)
class EncodingMethod(Described):
    """Says how the pictures are to be encoded, for a budget.

    axis: of what there is less. needs: what the model must offer (`VLM.encodings`), as `Method.needs` names signals;
    all else as `Described`
    """

    stage: ClassVar[Stage] = "pre_tower"
    axis: ClassVar[Axis] = RESOLUTION

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.axis})

    def encoding(self, n: int, budget: int) -> Encoding:
        """What to ask for in place of the N tokens. Raises ValueError when the budget is not in 1..N."""
        return self.ask(n, check_budget(budget, n))

    @abstractmethod
    def ask(self, n: int, budget: int) -> Encoding:
        """The method itself, called by `encoding` with a valid budget."""


class Made(Protocol):
    """What a model made of pictures; `pruning.models.Encoded` is one."""

    @property
    def tokens(self) -> VisualTokens: ...


Again = Callable[[Encoding], Made]
"""Encodes the same pictures anew, as is asked. Raises OutOfReachError where the model cannot."""


def encoded_by(method: EncodingMethod, n: int, retention: float, per: Scope, again: Again | None) -> Made:
    """What `again` makes of the pictures of N tokens when it encodes them as the method asks, at a retention.

    per: what a budget is for. Raises OutOfReachError as `again` does, and for another `per` than the sample; ValueError
    for a retention outside (0, 1], or without `again`.
    """
    asked = method.encoding(n, keep_count(n, retention))
    if per != SCOPES[0]:
        raise OutOfReachError(f"{method.title} has one budget for all pictures, not one per {per}: name {SCOPES[0]!r}")
    if again is None:
        raise ValueError(f"{method.title} asks for another encoding of the pictures: say with `again` how to make it")
    return again(asked)


ENCODING: Registry[EncodingMethod] = Registry()
E = TypeVar("E", bound=type[EncodingMethod])


def register_encoding(cls: E) -> E:
    """Class decorator, above @dataclass(frozen=True): enter it under its `name`. TypeError as `register`."""
    return enter(cls, ENCODING)


def make_encoding(name: str, **knobs: object) -> EncodingMethod:
    """An encoding method by its key. Raises ValueError listing the known ones or their knobs, or a knob's own rule.

    >>> make_encoding("lower_resolution").encoding(256, 64)
    Encoding(most=64, axis='resolution')
    """
    return build(ENCODING, "encoding method", name, knobs)
