"""What a chart shows, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pruning.scenes.drawn import pick, some
from pruning.scenes.render import COLORS
from pruning.scenes.words import CATEGORIES, LETTERS

KINDS: Final = ("bar", "line", "pie", "scatter")


@dataclass(frozen=True)
class Chart:
    """`names` of the categories along the axis, of the slices or of the points; empty for groups of points.

    `series`: colour and values, one per name; for groups of points their heights, with `across` their places.
    `paints`: the colour of every bar or slice, where each has its own. `ticks`: numbers on the axis, lowest first.
    `labelled`: whether values are written beside the marks. `tenths`: whether numbers count tenths ("3.5" is 35).
    """

    kind: str
    names: tuple[str, ...]
    series: tuple[tuple[str, tuple[int, ...]], ...]
    ticks: tuple[int, ...] = ()
    paints: tuple[str, ...] = ()
    labelled: bool = False
    tenths: bool = False
    across: tuple[tuple[int, ...], ...] = ()

    @property
    def values(self) -> tuple[int, ...]:
        """Of the first series."""
        return self.series[0][1]

    @property
    def gap(self) -> float:
        """Values closer than this are not told apart by eye, so no question compares them."""
        return 3.0 if self.kind == "pie" else 0.06 * (self.ticks[-1] - self.ticks[0])

    def spell(self, value: int) -> str:
        """A value as it is written and read."""
        if self.kind == "pie":
            return f"{value}%"
        return f"{value / 10:.1f}" if self.tenths else str(value)


def compose(rng: np.random.Generator, most: int) -> Chart:
    """A chart with at most `most` categories of five letters, or up to seven of one letter."""
    kind = pick(rng, KINDS)
    group = pick(rng, CATEGORIES)
    most = 7 if group is LETTERS else most
    names = tuple(_names(rng, group, int(rng.integers(3, most + 1))))
    if kind == "pie":
        return _pie(rng, names[:6])
    if kind == "scatter" and rng.random() < 0.6:
        return _groups(rng, most)
    count = int(rng.integers(1, 4)) if kind == "line" else 1
    labelled = count == 1 and kind != "scatter" and rng.random() < 0.7
    ticks, tenths = _axis(rng, kind == "line" and rng.random() < 0.15)
    colors = some(rng, list(COLORS), count)
    series: list[tuple[str, tuple[int, ...]]] = []
    for color in colors:
        values = _values(rng, len(names), ticks, labelled, kind != "scatter")
        if all(a != b for _, others in series for a, b in zip(values, others, strict=True)):  # none hides another
            series.append((color, values))
    paints = tuple(some(rng, list(COLORS), len(names))) if kind == "bar" and rng.random() < 0.3 else ()
    return Chart(kind, names, tuple(series), ticks, paints[: len(names)], labelled, tenths)


def _names(rng: np.random.Generator, group: tuple[str, ...], count: int) -> list[str]:
    """Neighbours in their order now and then (jan, feb, mar), else any."""
    if rng.random() < 0.5:
        start = int(rng.integers(len(group) - count + 1))
        return list(group[start : start + count])
    return some(rng, group, count)


def _axis(rng: np.random.Generator, negative: bool) -> tuple[tuple[int, ...], bool]:
    step = pick(rng, (1, 2, 2, 4, 5, 10, 10, 20, 50, 100))
    count = int(rng.integers(4, 7))
    low = -int(rng.integers(1, 3)) if negative else 0
    return tuple(step * i for i in range(low, low + count)), step in (5, 10, 20) and bool(rng.random() < 0.3)


def _values(
    rng: np.random.Generator, count: int, ticks: tuple[int, ...], labelled: bool, ordered: bool
) -> tuple[int, ...]:
    """Any numbers where they are written, else such as lie on a tick or, where they can, half-way; often in order."""
    low, high, step = ticks[0], ticks[-1], ticks[1] - ticks[0]
    if labelled:
        values = rng.integers(low + max(step // 4, low == 0), high + 1, count)
    else:
        half = step // 2 if step % 2 == 0 and rng.random() < 0.5 else step
        values = half * rng.integers(-(-low // half) + (low == 0), high // half + 1, count)
    if ordered and rng.random() < 0.4:
        values = np.sort(values)[:: 1 if rng.random() < 0.5 else -1]
    return tuple(int(v) for v in values)


def _pie(rng: np.random.Generator, names: tuple[str, ...]) -> Chart:
    smallest = 7
    shares = rng.multinomial(100 - smallest * len(names), rng.dirichlet([1.2] * len(names))) + smallest
    paints = tuple(some(rng, list(COLORS), len(names)))
    return Chart("pie", names, (("", tuple(int(s) for s in shares)),), paints=paints, labelled=bool(rng.random() < 0.8))


def _groups(rng: np.random.Generator, most: int) -> Chart:
    """Groups of points on a grid of 12 x 12 places, none twice, each group rising or falling along its line."""
    ticks, tenths = _axis(rng, False)
    taken: set[tuple[int, int]] = set()
    series, across = [], []
    for color in some(rng, list(COLORS), int(rng.integers(1, 4))):
        count = int(rng.integers(3, most + 2))
        places = rng.permutation(12)[:count]
        slope, level = float(rng.uniform(0.5, 1.0)) * (1 if rng.random() < 0.5 else -1), float(rng.uniform(4.5, 6.5))
        points = {}
        for x in places.tolist():
            y = int(np.clip(round(level + slope * (x - 5.5) + rng.normal(0, 0.9)), 0, 11))
            if not any((x + dx, y + dy) in taken for dx in (-1, 0, 1) for dy in (-1, 0, 1)):
                points[x] = y
        if points:
            taken |= set(points.items())
            scale = (ticks[-1] - ticks[0]) / 12
            series.append((color, tuple(round(ticks[0] + (y + 0.5) * scale * 100) for y in points.values())))
            across.append(tuple(points))
    return Chart("scatter", (), tuple(series), ticks, tenths=tenths, across=tuple(across))
