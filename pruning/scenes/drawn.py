"""What a world hands over: a picture, what was written and marked where, and the facts that questions are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from pruning.scenes.render import Pixels

T = TypeVar("T")

SMALLEST_SIDE, LARGEST_SIDE = 224, 896
"""px; below that a page holds too little to ask about."""

TEXT_ROLES: Final = ("title", "key", "value", "text", "tick", "legend")
"""What a writing is for: heading, name of something, what belongs to a name, other words, axis, legend."""
MARK_ROLES: Final = ("bar", "tip", "slice", "point", "arrow", "on", "off", "tab", "active", "button", "field", "badge")
"""Things that are not writing: parts of charts, boxes and switches on and off, tabs, and so on."""


@dataclass(frozen=True, eq=False)
class Writing:
    """One piece of text. `text` as drawn; `centers` (len(text), 2): x and y of every character in px.

    `of`: the word of the vocabulary that it belongs to, as the price on a receipt belongs to its item; "" for none.
    `under`: the same for a second one, as a cell of a table is under its column.
    """

    text: str
    centers: NDArray[np.float32]
    role: str
    of: str = ""
    under: str = ""


@dataclass(frozen=True)
class Mark:
    """One thing that is not writing: `box` x0, y0, x1, y1 in px, its `color` if that is one of the named ones.

    `of`: the word it belongs to. `value`: what it stands for, spelled, "" for nothing. `level`: 0 to 1 along the axis.
    """

    role: str
    box: tuple[float, float, float, float]
    color: str = ""
    of: str = ""
    value: str = ""
    level: float | None = None


@dataclass(frozen=True, eq=False)
class Drawn:
    """A drawn picture: `image` (H, W, 3) uint8 RGB; `facts`: what its world asks about."""

    seed: int
    image: Pixels
    facts: Any
    writings: tuple[Writing, ...]
    marks: tuple[Mark, ...]


def generator(world: int, seed: int, height: int, width: int) -> np.random.Generator:
    """The random numbers of one picture. Raises ValueError for sides outside the bounds or a negative seed."""
    if min(height, width) < SMALLEST_SIDE or max(height, width) > LARGEST_SIDE or seed < 0:
        raise ValueError(
            f"picture {seed} of {height}x{width} px: sides must be {SMALLEST_SIDE} to {LARGEST_SIDE} px and the seed "
            "at least 0."
        )
    return np.random.default_rng([world, seed, height, width])


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """One of `items`."""
    return items[int(rng.integers(len(items)))]


def some(rng: np.random.Generator, items: Sequence[T], count: int) -> list[T]:
    """`count` different ones of `items`, or all of them, in random order."""
    return [items[int(i)] for i in rng.permutation(len(items))[:count]]
