"""Held-out pictures of a world and the questions about them, the same ones on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pruning.scenes.questions import Question
from pruning.scenes.render import HELD_OUT
from pruning.scenes.worlds import World

SIZES: Final = ((448, 448), (336, 448), (336, 336))
"""Height and width of the pictures, in turn: 256, 192 and 144 visual tokens of 28 px."""


def held_out(
    world: World, scenes: int, per_family: int = 1, first: int = HELD_OUT
) -> Iterator[tuple[Any, list[Question]]]:
    """`scenes` pictures from seed `first` on, each with up to `per_family` questions of each family.

    Raises ValueError for fewer than one picture or question.
    """
    if scenes < 1 or per_family < 1:
        raise ValueError(f"{scenes} scenes with {per_family} questions a family: both must be at least 1.")
    for i in range(scenes):
        picture = drawn(world, first + i, first)
        yield picture, list(world.questions(picture, 0, per_family))


def drawn(world: World, seed: int, first: int = HELD_OUT) -> Any:
    """The picture of this seed among those that begin with `first`."""
    return world.draw(seed, *SIZES[(seed - first) % len(SIZES)])
