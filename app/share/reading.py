"""Reads a link: what a stranger wrote, held value by value against the rules of the page's controls.

A value that breaks its rule is named and left out. Nothing in a link is ever a path or a repository: models, examples,
methods and styles are looked up by name among those that are here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast
from urllib.parse import parse_qsl

from app.examples import EXAMPLES
from app.session import MAX_PLAN, MAX_QUESTION
from app.share.link import LONGEST, NAMES, TURNS, UPLOAD, Link, knobs_of
from pruning.drawing.overlays import STYLES
from pruning.grids import SCOPES, Scope
from pruning.handover.ours import KNOB
from pruning.models.values import POSITIONS, Positions
from pruning.params import Param, Value
from pruning.plan import parse_plan
from pruning.published import PUBLISHED
from pruning.runnable import REGISTERED
from pruning.text import checked_question
from pruning.weights import mmr_lambda

T = TypeVar("T")

MOST = 100  # values in a link
FOREIGN = re.compile(r"__\w*|utm_\w*|fbclid|gclid|view|deep_link", re.ASCII)  # others add these to any address
NUMBER = re.compile(r"[-+]?\d{1,12}(\.\d{1,20})?(e[-+]?\d{1,3})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Rules:
    """What is allowed here: names of models, and the ranges of the page's sliders, both ends included."""

    models: Collection[str]
    weight: tuple[float, float]
    retention: tuple[float, float]
    fps: tuple[float, float]
    frames: tuple[float, float]


def read(query: str, rules: Rules) -> tuple[Link | None, list[str]]:
    """What a query string says, and in words every value that is not taken; None where it says nothing to this app."""
    if len(query) > LONGEST:
        return Link(), [f"the whole link, which has {len(query):,} characters (at most {LONGEST:,} are read)"]
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MOST)
    except ValueError:
        return Link(), [f"the whole link, which has more than {MOST} values"]
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if not FOREIGN.fullmatch(name):
            given.setdefault(name, []).append(value)
    if not given:
        return None, []
    return _Reader(given, rules).link()


class _Reader:
    """Takes the values out of a link one by one and keeps the words on those that it refuses."""

    def __init__(self, given: Mapping[str, Sequence[str]], rules: Rules) -> None:
        self.given, self.rules = given, rules
        self.refused: list[str] = []

    def link(self) -> tuple[Link, list[str]]:
        rules, examples = self.rules, [example.name for example in EXAMPLES]
        link = Link(
            model=self._take("model", _one_of(rules.models)),
            example=self._take("example", _one_of([*examples, UPLOAD])),
            questions=self._questions(),
            method=self._take("method", _one_of(REGISTERED)),
            importance=self._take("importance", _within(*rules.weight)),
            diversity=self._take("diversity", _within(*rules.weight)),
            retention=self._take("retention", _within(*rules.retention)),
            overlay=self._take("overlay", _one_of(STYLES)),
            per=cast("Scope | None", self._take("per", _one_of(SCOPES))),
            plan=self._take("plan", _plan),
            positions=cast("Positions | None", self._take("positions", _one_of(POSITIONS))),
            fps=self._take("fps", _within(*rules.fps)),
            frames=self._take("frames", _whole(*rules.frames)),
        )
        if link.importance is not None and link.diversity is not None:
            try:
                mmr_lambda(link.importance, link.diversity)
            except ValueError as error:
                self.refused.append(f"importance and diversity ({error})")
                link = replace(link, importance=None, diversity=None)
        link = replace(link, knobs=self._knobs(link.method))
        unknown = [name for name in self.given if name not in NAMES and not name.startswith(KNOB)]
        self.refused += [f"{_shown(name)} (no such setting)" for name in unknown]
        return link, self.refused

    def _take(self, name: str, rule: Callable[[str], T]) -> T | None:
        values = self.given.get(name, ())
        if not values:
            return None
        try:
            if len(values) > 1:
                raise ValueError(f"given {len(values)} times, so none of them counts")
            return rule(values[0])
        except ValueError as error:
            self.refused.append(f"{name if name in NAMES else _shown(name)} = {_shown(values[0])} ({error})")
            return None

    def _questions(self) -> tuple[str, ...]:
        asked = self.given.get("question", ())
        try:
            if len(asked) > TURNS:
                raise ValueError(f"{len(asked)} questions, at most {TURNS} are taken")
            return tuple(checked_question(question, MAX_QUESTION) for question in asked)
        except ValueError as error:
            self.refused.append(f"question ({error})")
            return ()

    def _knobs(self, method: str | None) -> dict[str, Value]:
        known = {KNOB + param.name: param for param in knobs_of(method)} if method else {}
        knobs = {}
        for name in self.given:
            if not name.startswith(KNOB):
                continue
            value = self._take(name, _knob(known.get(name), method))
            if value is not None:
                knobs[name.removeprefix(KNOB)] = value
        return knobs


def _one_of(names: Iterable[str]) -> Callable[[str], str]:
    known = list(names)

    def rule(text: str) -> str:
        if text not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return text

    return rule


def _plan(text: str) -> str:
    """As the plan itself is written, whatever a stranger's spaces and zeros were."""
    if text in PUBLISHED:
        return text
    if len(text) > MAX_PLAN:
        raise ValueError(f"must have at most {MAX_PLAN} characters")
    return str(parse_plan(text))


def _within(low: float, high: float) -> Callable[[str], float]:
    def rule(text: str) -> float:
        number = _number(text)
        if number is None or not low <= number <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return number

    return rule


def _whole(low: float, high: float) -> Callable[[str], int]:
    def rule(text: str) -> int:
        number = _within(low, high)(text)
        if not number.is_integer():
            raise ValueError("must be a whole number")
        return int(number)

    return rule


def _knob(param: Param | None, method: str | None) -> Callable[[str], Value]:
    def rule(text: str) -> Value:
        if param is None:
            owner = REGISTERED[method].title if method else "a link that names no method"
            raise ValueError(f"{owner} has no such knob")
        return param.check(text if param.kind == "choice" else _number(text))

    return rule


def _number(text: str) -> float | None:
    """Plain decimal notation alone: `float` would also read "nan", "1_0" and digits of other scripts."""
    return float(text) if NUMBER.fullmatch(text) else None


def _shown(text: str) -> str:
    """A value as a notice repeats it: short, and with nothing that could be taken for anything else."""
    return repr(text[:40]) + "…" * (len(text) > 40)
