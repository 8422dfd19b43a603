"""A matplotlib figure without pyplot, in px, that remembers what was written and drawn where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pruning.scenes.drawn import Mark, Writing, pick
from pruning.scenes.pen import Color, paint, shade
from pruning.scenes.render import Pixels
from pruning.scenes.typefaces import faces, font

DPI: Final = 100


@cache
def _properties(face: str, size: int) -> Any:
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=face, size=size * 72 / DPI)


@dataclass(frozen=True)
class Look:
    """How a chart is set: `size` of its writing in px; the others as matplotlib names them, colours 0 to 255."""

    face: str
    size: int
    ground: Color
    plot: Color
    ink: Color
    grid: str
    frame: bool
    marker: str
    line: str
    width: float


def look(rng: np.random.Generator, seed: int, height: int) -> Look:
    """A random look; typefaces as `faces` allows them for `seed`."""
    dark = rng.random() < 0.15
    ground, ink = (shade(rng, 10, 60), shade(rng, 220, 255)) if dark else (shade(rng, 235, 255, 5), shade(rng, 0, 70))
    same = rng.random() < 0.6
    plot = ground if same else shade(rng, 25, 75) if dark else shade(rng, 215, 255, 8)
    size = int(rng.integers(14, 18 if height < 300 else 21))
    return Look(pick(rng, faces(seed)), size, ground, plot, ink, pick(rng, ("", "y", "both")), bool(rng.random() < 0.5),
                pick(rng, ("o", "s", "D", "^")), pick(rng, ("-", "-", "--")), float(rng.uniform(1.6, 3.6)))  # fmt: skip


def unit(color: Color) -> tuple[float, float, float]:
    """A colour as matplotlib takes it."""
    return color[0] / 255, color[1] / 255, color[2] / 255


def paint_of(rng: np.random.Generator, name: str) -> tuple[float, float, float]:
    """A named colour as matplotlib takes it."""
    return unit(paint(rng, name))


class Canvas:
    """One figure of `height` x `width` px with one set of axes in it."""

    def __init__(self, height: int, width: int, look: Look, box: tuple[float, float, float, float]) -> None:
        """box: left, top, right, bottom margin of the axes in px."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        left, top, right, bottom = box
        self.look, self.height = look, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=unit(look.ground))
        self.agg = FigureCanvasAgg(self.figure)
        frame = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
        self.axes = self.figure.add_axes(frame, facecolor=unit(look.plot))
        self.texts: list[tuple[Any, str, str, str]] = []
        self.marks: list[Mark] = []

    def font(self, size: int | None = None) -> Any:
        """The look's typeface at `size` px, or at its own size."""
        return _properties(self.look.face, size or self.look.size)

    def note(self, text: Any, role: str, of: str = "", under: str = "") -> None:
        """Remember a matplotlib text, wherever it will come to lie."""
        self.texts.append((text, role, of, under))

    def write(self, text: str, x: float, y: float, role: str, of: str = "", under: str = "") -> None:
        """Write `text` about (x, y) px from the top left."""
        width = self.figure.bbox.width
        put = self.figure.text(x / width, 1 - y / self.height, text, ha="center", va="center_baseline",
                               color=unit(self.look.ink), fontproperties=self.font())  # fmt: skip
        self.note(put, role, of, under)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Data to px from the top left."""
        at = self.axes.transData.transform((x, y))
        return float(at[0]), float(self.height - at[1])

    def pixels(self) -> tuple[Pixels, tuple[Writing, ...]]:
        """The drawn figure (H, W, 3) and what is written on it."""
        self.agg.draw()
        image = np.asarray(self.agg.buffer_rgba())[..., :3].copy()
        return image, tuple(self._writing(*noted) for noted in self.texts)

    def _writing(self, text: Any, role: str, of: str, under: str) -> Writing:
        box, said = text.get_window_extent(self.agg.get_renderer()), text.get_text()
        return Writing(said, _centers(said, self.look.face, box.x0, box.x1, self.height - (box.y0 + box.y1) / 2),
                       role, of, under)  # fmt: skip


def _centers(text: str, face: str, x0: float, x1: float, y: float) -> NDArray[np.float32]:
    """Middle of every character of `text` between x0 and x1, in proportion to the characters' widths."""
    wide = np.array([font(face, 32).getlength(c) for c in text])
    ends = np.cumsum(wide)
    x = x0 + (ends - wide / 2) / ends[-1] * (x1 - x0)
    return np.stack([x, np.full(len(text), y)], 1).astype(np.float32)
