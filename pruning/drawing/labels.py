"""Where the names of points and lines find room on a chart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

SMALL = 8.2  # font size of names and ticks
SPOT = 3  # half the side of what a point takes, pixels


def between(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of a line and seven more on each stretch: what a label should not cover."""
    steps = [step / 8 for step in range(8)]
    inner = [(a + s * (c - a), b + s * (d - b)) for (a, b), (c, d) in pairwise(line) for s in steps]
    return [*inner, *line[-1:]]


class Labels:
    """Puts names beside points where they cover no other point or name; gives up on one that finds no room."""

    _AROUND = ((7, 0), (7, 9), (7, -9), (-7, 0), (-7, 9), (-7, -9), (0, 13), (0, -13), (16, 18), (-16, 18), (16, -18),
               (-16, -18), (24, 30), (-24, 30), (24, -30), (-24, -30))  # fmt: skip

    def __init__(self, axes: Axes, points: Sequence[tuple[float, float]]) -> None:
        self._axes, self._points = axes, points
        self._taken: list[Bbox] = []
        self._room = Bbox.from_extents(axes.bbox.x0 + 2, axes.bbox.y0 + 2, axes.bbox.x1 + 8, axes.bbox.y1 + 8)

    def add(self, x: float, y: float, text: str, colour: str, reach: float = 0, side: int = 1) -> None:
        """`reach`: radius of what surrounds the point, in pixels; such a label is bold. `side`: 1 right, -1 left
        first.
        """
        across, up = self._axes.transData.transform((x, y))
        spots = self._axes.transData.transform(self._points)
        width, height = 6.1 * len(text) * (1.08 if reach else 1.0), 11.0
        best: tuple[int, float, float, Bbox] | None = None
        for wide, dy in self._AROUND:
            dx = side * (wide + (reach if wide > 0 else -reach if wide < 0 else 0))
            left = across + dx - (width if dx < 0 else width / 2 if dx == 0 else 0)
            box = Bbox.from_bounds(left, up + dy - height / 2, width, height)
            if not (
                self._room.x0 <= box.x0
                and box.x1 <= self._room.x1
                and self._room.y0 <= box.y0
                and box.y1 <= self._room.y1
            ):
                continue
            if any(box.overlaps(other) for other in self._taken):
                continue
            reaching = np.abs(spots - (left + width / 2, up + dy)) <= (width / 2 + SPOT, height / 2 + SPOT)
            hidden = int(np.count_nonzero(reaching.all(axis=1)))
            if best is None or hidden < best[0]:
                best = (hidden, dx, dy, box)
        if best is None:
            return
        self._taken.append(best[3])
        points = 72 / 100  # offsets are in points, boxes in pixels
        self._axes.annotate(
            text, (x, y), (best[1] * points, best[2] * points), textcoords="offset points", color=colour,
            fontsize=SMALL, fontweight="bold" if reach else "normal", va="center", zorder=7,
            ha="left" if best[1] > 0 else "right" if best[1] < 0 else "center",
        )  # fmt: skip
