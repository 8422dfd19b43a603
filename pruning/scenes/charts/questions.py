"""Questions about a chart, five families, each with one right answer.

`value`: a number read off. `extreme`: which is highest, lowest, largest, smallest. `compare`: yes or no. `count`: bars,
slices, lines, points, and bars above a number. `trend`: rise or fall.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, permutations
from typing import Final

import numpy as np

from pruning.scenes.charts.numbers import Chart
from pruning.scenes.drawn import Drawn, pick
from pruning.scenes.questions import Question

FAMILIES: Final = ("value", "extreme", "compare", "count", "trend")
PLURAL: Final = {"bar": "bars", "line": "lines", "pie": "slices", "scatter": "points"}


def ask(picture: Drawn, rng: np.random.Generator, family: str) -> Question | None:
    """One random question of `family` about `picture`; None where the chart has nothing to ask about."""
    chart: Chart = picture.facts
    make = {"value": _values, "extreme": _extremes, "compare": _compares, "count": _counts, "trend": _trends}[family]
    asks = list(make(chart))
    if not asks:
        return None
    if family in ("compare", "trend"):  # each answer as often as the other
        wanted = pick(rng, sorted({answer for _, answer in asks}))
        asks = [(text, answer) for text, answer in asks if answer == wanted]
    return Question(*pick(rng, asks), family)


def _values(chart: Chart) -> Iterator[tuple[str, str]]:
    if chart.kind == "pie":
        if chart.labelled:
            for name, value in zip(chart.names, chart.values, strict=True):
                yield f"what is the share of {name}?", chart.spell(value)
        return
    for color, values in chart.series:
        for name, value in zip(chart.names, values, strict=False):
            where = f"{color} at {name}" if len(chart.series) > 1 else name
            yield f"what is the value of {where}?", chart.spell(value)
    for color, value in zip(chart.paints, chart.values, strict=False):
        yield f"what is the value of the {color} bar?", chart.spell(value)


def _ends(chart: Chart, names: tuple[str, ...], values: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """("highest" or "lowest", its name), where no other comes near."""
    for word, turned in (("highest", values), ("lowest", tuple(-v for v in values))):
        first, second = sorted(turned)[:-3:-1]
        if first - second >= max(chart.gap, 1):
            yield word, names[turned.index(first)]


def _extremes(chart: Chart) -> Iterator[tuple[str, str]]:
    if not chart.names:
        return
    sizes = {"highest": "largest", "lowest": "smallest"}
    if chart.kind == "line":
        for color, values in chart.series:
            for word, name in _ends(chart, chart.names, values):
                yield f"where is {color} {word}?", name
        colors = tuple(color for color, _ in chart.series)
        if len(colors) > 1:
            for i, name in enumerate(chart.names):
                for word, color in _ends(chart, colors, tuple(values[i] for _, values in chart.series)):
                    yield f"which line is {word} at {name}?", color
        return
    thing = {"bar": "bar", "pie": "slice", "scatter": "point"}[chart.kind]
    for word, name in _ends(chart, chart.names, chart.values):
        yield f"which {thing} is {sizes[word] if chart.kind == 'pie' else word}?", name


def _compares(chart: Chart) -> Iterator[tuple[str, str]]:
    if not chart.names:
        return
    if chart.kind == "line" and len(chart.series) > 1:
        for (one, ones), (two, twos) in permutations(chart.series, 2):
            for name, a, b in zip(chart.names, ones, twos, strict=True):
                if abs(a - b) >= chart.gap:
                    yield f"is {one} above {two} at {name}?", "yes" if a > b else "no"
        return
    for (one, a), (two, b) in permutations(zip(chart.names, chart.values, strict=True), 2):
        if len(chart.series) == 1 and abs(a - b) >= max(chart.gap, 1):
            words = ("above", "below") if chart.kind == "scatter" else ("larger than", "smaller than")
            yield f"is {one} {words[0]} {two}?", "yes" if a > b else "no"
            yield f"is {one} {words[1]} {two}?", "yes" if a < b else "no"


def _counts(chart: Chart) -> Iterator[tuple[str, str]]:
    things = PLURAL[chart.kind]
    if chart.kind == "line":
        yield "how many lines are there?", str(len(chart.series))
        yield "how many points are on a line?", str(len(chart.names))
        return
    yield f"how many {things} are there?", str(sum(len(values) for _, values in chart.series))
    if not chart.names:
        for color, values in chart.series:
            yield f"how many {color} points are there?", str(len(values))
    elif chart.kind == "bar":
        for tick in chart.ticks[1:-1]:
            if all(abs(value - tick) >= chart.gap for value in chart.values):
                above = sum(value > tick for value in chart.values)
                yield f"how many bars are above {chart.spell(tick)}?", str(above)


def _trends(chart: Chart) -> Iterator[tuple[str, str]]:
    if chart.kind in ("bar", "line"):
        for color, values in chart.series:
            steps = {np.sign(b - a) for a, b in pairwise(values)} - {0}
            if len(steps) == 1:
                what = "do the bars" if chart.kind == "bar" else f"does the {color} line"
                yield f"{what} rise or fall?", "rise" if steps == {1} else "fall"
    elif not chart.names:
        for (color, heights), places in zip(chart.series, chart.across, strict=True):
            if len(places) >= 4:
                slope = float(np.corrcoef(places, heights)[0, 1]) if len(set(heights)) > 1 else 0.0
                if abs(slope) > 0.7:
                    yield f"do the {color} points rise or fall?", "rise" if slope > 0 else "fall"
