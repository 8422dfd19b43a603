"""Questions about a window, five families, each with one right answer.

`state`: whether a box or switch is on. `value`: what a field holds, the number on a badge. `selected`: the open tab,
the window's title. `count`: controls, and those that are on. `button`: its colour, its place, whether it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from pruning.scenes.drawn import Drawn, pick
from pruning.scenes.interfaces.windows import Window
from pruning.scenes.questions import Question
from pruning.scenes.words import BUTTONS, SETTINGS, article

FAMILIES: Final = ("state", "value", "selected", "count", "button")


def ask(picture: Drawn, rng: np.random.Generator, family: str) -> Question | None:
    """One random question of `family` about `picture`; None where the window has nothing to ask about."""
    window: Window = picture.facts
    make = {"state": _states, "value": _values, "selected": _selected, "count": _counts, "button": _buttons}[family]
    asks = list(make(window))
    if not asks:
        return None
    open_ended = [ask for ask in asks if ask[1] not in ("yes", "no")]
    if family == "button" and open_ended and rng.random() < 0.6:
        return Question(*pick(rng, open_ended), family)
    said = [answer for _, answer in asks]
    if family == "count":  # else most answers are 1
        wanted = pick(rng, sorted(set(said)))
    else:
        wanted = ("yes" if rng.random() < 0.5 else "no") if rng.random() < said.count("no") / len(said) * 1.3 else ""
    return Question(*pick(rng, [ask for ask in asks if ask[1] == wanted] or asks), family)


def _states(window: Window) -> Iterator[tuple[str, str]]:
    state = "checked" if window.control == "box" else "on"
    for name, on in window.settings:
        yield f"is the {name} {window.control} {state}?", "yes" if on else "no"
        yield f"is {name} {state}?", "yes" if on else "no"


def _values(window: Window) -> Iterator[tuple[str, str]]:
    for name, content in window.fields:
        yield f"what is in the {name} field?", content
        yield f"what is the {name}?", content
    for name, number in window.badges:
        yield f"what number is on the {name} badge?", number


def _selected(window: Window) -> Iterator[tuple[str, str]]:
    if window.active:
        yield "which tab is selected?", window.active
        for name in window.tabs:
            yield f"is the {name} tab selected?", "yes" if name == window.active else "no"
    if window.title:
        yield "what is the title?", window.title


def _counts(window: Window) -> Iterator[tuple[str, str]]:
    plural = "boxes" if window.control == "box" else "switches"
    if window.settings:
        on = sum(on for _, on in window.settings)
        yield f"how many {plural} are there?", str(len(window.settings))
        yield f"how many {plural} are {'checked' if window.control == 'box' else 'on'}?", str(on)
    if window.tabs:
        yield "how many tabs are there?", str(len(window.tabs))
    yield "how many buttons are there?", str(len(window.buttons))


def _buttons(window: Window) -> Iterator[tuple[str, str]]:
    names = [name for name, _ in window.buttons]
    for i, (name, color) in enumerate(window.buttons):
        yield f"what color is the {name} button?", color
        yield f"which button is {color}?", name
        for j, other in enumerate(names):
            if i != j:
                yield f"is the {name} button left or right of the {other} button?", "left" if i < j else "right"
    for name in BUTTONS:
        yield f"is there {article(name)} button?", "yes" if name in names else "no"
    there = {name for name, _ in (*window.settings, *window.badges)}
    for name in SETTINGS:
        yield f"is {name} on the list?", "yes" if name in there else "no"
