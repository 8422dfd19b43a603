"""The worlds that the shipped models know: each draws pictures and asks about them, in families of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pruning.scenes import charts, documents, interfaces
from pruning.scenes.questions import FAMILIES, Question, ask
from pruning.scenes.render import render


@dataclass(frozen=True)
class World:
    """`draw(seed, height, width)` gives a picture: its `image` is (H, W, 3) uint8, its `seed` the one given.

    `ask(picture, rng, family)` gives a question about it, or None where there is nothing of `family` to ask about.
    """

    name: str
    families: tuple[str, ...]
    draw: Callable[[int, int, int], Any]
    ask: Callable[[Any, np.random.Generator, str], Question | None]

    def questions(self, picture: Any, seed: int, per_family: int = 1) -> Iterator[Question]:
        """Up to `per_family` different questions of each family, deterministic in `seed`."""
        rng = np.random.default_rng([picture.seed, seed])
        for family in self.families:
            seen: set[str] = set()
            for _ in range(per_family * 3):
                question = self.ask(picture, rng, family)
                if question and question.text not in seen and len(seen) < per_family:
                    seen.add(question.text)
                    yield question


SCENES: Final = World("scenes", FAMILIES, render, ask)
WORLDS: Final = {
    world.name: world
    for world in (
        SCENES,
        World("charts", charts.FAMILIES, charts.draw, charts.ask),
        World("documents", documents.FAMILIES, documents.draw, documents.ask),
        World("interfaces", interfaces.FAMILIES, interfaces.draw, interfaces.ask),
    )
}
