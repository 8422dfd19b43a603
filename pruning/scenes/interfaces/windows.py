"""What a window holds, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pruning.scenes.drawn import pick, some
from pruning.scenes.render import COLORS
from pruning.scenes.words import BUTTONS, FORM_NUMBERS, FORM_WORDS, SETTINGS, TABS, invent

CONTROLS: Final = ("box", "switch")
_PLAIN: Final = ("room", "seat", "gate", "floor", "age", "code")


@dataclass(frozen=True)
class Window:
    """`title`: in the bar, or "". `tabs` with the name of the `active` one. `control`: what the settings are, one of
    CONTROLS; `settings`: name and whether it is on. `fields`: name and content. `badges`: name and number.
    `buttons`: name and colour, from left to right.
    """

    title: str
    tabs: tuple[str, ...]
    active: str
    control: str
    settings: tuple[tuple[str, bool], ...]
    fields: tuple[tuple[str, str], ...]
    badges: tuple[tuple[str, str], ...]
    buttons: tuple[tuple[str, str], ...]


def compose(rng: np.random.Generator, rows: int, cells: int) -> Window:
    """A window with about `rows` rows of controls, `cells` characters across."""
    title = invent(rng, 3, 8) if rng.random() < 0.8 else ""
    tabs = tuple(some(rng, TABS, int(rng.integers(2, min(max(cells // 7, 2), 4) + 1)))) if rng.random() < 0.6 else ()
    buttons = some(rng, BUTTONS, int(rng.integers(1, min(max(cells // 9, 1), 3) + 1))) if rng.random() < 0.75 else []
    room = max(rows - bool(title) - bool(tabs) - bool(buttons), 2)
    room = int(rng.integers(2, room + 1))
    counts = rng.multinomial(room, rng.dirichlet([1.6, 1.0, 0.8]))
    names = some(rng, SETTINGS, len(SETTINGS))
    on = float(rng.uniform(0.2, 0.8))
    settings = tuple((name, bool(rng.random() < on)) for name in names[: min(int(counts[0]), 6)])
    badges = tuple((name, str(rng.integers(1, 100))) for name in names[6 : 6 + min(int(counts[2]), 4)])
    keys = some(rng, FORM_WORDS + _PLAIN, min(int(counts[1]), 6))
    fields = tuple((key, _content(rng, key, cells)) for key in keys)
    if not settings + fields + badges:
        settings = ((names[0], bool(rng.random() < on)),)
    paints = some(rng, list(COLORS), len(buttons))
    return Window(title, tabs, pick(rng, tabs) if tabs else "", pick(rng, CONTROLS), settings, fields, badges,
                  tuple(zip(buttons, paints, strict=True)))  # fmt: skip


def _content(rng: np.random.Generator, key: str, cells: int) -> str:
    if key in FORM_NUMBERS:
        return str(rng.integers(1, 10000 if key == "code" else 100))
    return invent(rng, 3, max(min(8, cells - 11), 4))
