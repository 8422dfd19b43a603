"""A method's knobs, declared once: `mmr_lambda: Annotated[float, Range(0, 1, 0.05, label="λ", help="…")] = 0.5`.

From that one line come the control in the app, the command-line option, validation, the table in docs/methods.md, the
test matrix, the cache key and the share link. Nothing here knows Gradio or argparse: they read `params(cls)`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

Value = float | int | str
LAMBDA = "mmr_lambda"
"""The knob that weighs importance against diversity."""
SOURCE = "importance"
"""The knob that says where importance comes from."""


@dataclass(frozen=True)
class Range:
    """A number from `lo` to `hi`, both allowed. `step` is the control's step; values between steps are valid."""

    lo: float
    hi: float
    step: float
    label: str
    help: str = ""


@dataclass(frozen=True)
class Choice:
    """One of the strings of a Literal field."""

    label: str
    help: str = ""


@dataclass(frozen=True)
class Param:
    """One knob as read from the class. `kind` says which of lo/hi/step (numbers) and choices (choice) are meant."""

    name: str
    kind: Literal["float", "int", "choice"]
    default: Value
    label: str
    help: str
    lo: float = 0.0
    hi: float = 0.0
    step: float = 0.0
    choices: tuple[str, ...] = ()

    def check(self, value: object) -> Value:
        """`value` in the knob's own type. Raises ValueError that names value, rule and default."""
        if self.kind == "choice":
            if isinstance(value, str) and value in self.choices:
                return value
            rule = f"one of {', '.join(map(repr, self.choices))}"
        else:
            number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
            whole = self.kind == "int"
            # A slider hands over 3.0 for 3. NaN is within no limits.
            if self.lo <= number <= self.hi and (not whole or number.is_integer()):
                return int(number) if whole else number
            rule = f"a {'whole ' if whole else ''}number from {self.lo:g} to {self.hi:g}"
        raise ValueError(f"{self.name} = {value!r} is not allowed: it must be {rule} (default {self.default!r})")


@cache
def params(cls: type) -> tuple[Param, ...]:
    """The knobs of a dataclass in field order.

    Raises TypeError, when the class is registered and not when it is used, for a field that declares no knob.
    """
    hints = get_type_hints(cls, include_extras=True)
    return tuple(_param(cls, field, hints[field.name]) for field in dataclasses.fields(cls))


class HasKnobs:
    """Base of a frozen dataclass whose fields are knobs.

    On creation every knob is validated and stored in its own type; ValueError names value, rule and default.
    """

    def __post_init__(self) -> None:
        cls: type = type(self)
        for param in params(cls):
            object.__setattr__(self, param.name, param.check(getattr(self, param.name)))

    @classmethod
    def has(cls, knob: str) -> bool:
        """Whether it has a knob of this name."""
        of: type = cls
        return any(param.name == knob for param in params(of))

    @property
    def lambda_(self) -> float | None:
        """Its λ, 0 to 1; None where it has none."""
        return getattr(self, LAMBDA, None)

    def at_lambda(self, value: float) -> Self:
        """The same with this λ. Raises TypeError where it has none, ValueError where λ is out of range."""
        return dataclasses.replace(self, **{LAMBDA: value})  # type: ignore[type-var]


def _param(cls: type, field: dataclasses.Field[Any], hint: Any) -> Param:
    where = f"{cls.__name__}.{field.name}"
    if get_origin(hint) is not Annotated or field.default is dataclasses.MISSING:
        raise TypeError(
            f"{where} needs a knob and a default, such as: Annotated[float, Range(0, 1, 0.05, label='λ')] = 0.5"
        )
    base, knob, *_ = get_args(hint)
    if isinstance(knob, Range) and base in (float, int):
        param = Param(
            field.name, base.__name__, field.default, knob.label, knob.help, float(knob.lo), float(knob.hi), knob.step
        )
    elif isinstance(knob, Choice) and get_origin(base) is Literal:
        param = Param(field.name, "choice", field.default, knob.label, knob.help, choices=get_args(base))
    else:
        raise TypeError(f"{where}: {base} with {knob} is no knob; Range goes with float or int, Choice with Literal")
    try:
        param.check(field.default)
    except ValueError as error:
        raise TypeError(f"{where}: the default breaks its own rule: {error}") from error
    return param
