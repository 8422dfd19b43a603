"""Draws a page: paper, typeface, size, case, rules; then a slight turn, light, grain and JPEG.

Deterministic: the same seed and size give the same picture on the same library versions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pruning.scenes.documents.pages import Page, compose, known
from pruning.scenes.drawn import Drawn, generator, pick
from pruning.scenes.pen import PITCH, Color, Pen, age, arrow, paint, shade, turn
from pruning.scenes.render import COLORS
from pruning.scenes.typefaces import faces

_WORLD = 2


@dataclass(frozen=True)
class _Style:
    """How a page is set. `size`, `pitch`, `margin` in px; `case`: lower, upper, title; `end`: what follows a key."""

    ground: Color
    ink: Color
    size: int
    pitch: int
    margin: int
    case: str
    end: str
    ruled: bool


def draw(seed: int, height: int = 336, width: int = 336) -> Drawn:
    """Draw the document of `seed`. Raises ValueError as `generator` does."""
    rng = generator(_WORLD, seed, height, width)
    face = pick(rng, faces(seed))
    style = _style(rng, height)
    pen = Pen(height, width, style.ground, face)
    across = (width - 2 * style.margin) / max(pen.width("n0", style.size) / 2, 1)
    down = (height - 2 * style.margin) // style.pitch
    page = compose(rng, max(int(down), 3), max(int(across), 8))
    if page.kind == "sign":
        _sign(rng, pen, page, style)
    else:
        _lines(rng, pen, page, _fitted(pen, page, style))
    degrees = float(np.clip(rng.normal(0, 0.9), -2.2, 2.2)) if rng.random() < 0.6 else 0.0
    image, writings, marks = turn(
        pen.pixels(), pen.writings, pen.marks, degrees, float(rng.uniform(0.95, 1.0)), style.ground
    )
    return Drawn(seed, age(rng, image), page, tuple(writings), tuple(marks))


def _style(rng: np.random.Generator, height: int) -> _Style:
    size = int(rng.integers(16, 27))
    while 4 * max(PITCH, round(1.35 * size)) > height - 24:
        size -= 1
    pitch = max(PITCH, round(size * rng.uniform(1.25, 1.7)))
    dark = rng.random() < 0.08
    ground, ink = shade(rng, 205, 255), shade(rng, 0, 75, 30)
    if dark:
        ground, ink = shade(rng, 0, 60, 20), shade(rng, 215, 255)
    case = pick(rng, ("lower", "upper", "title", "title"))
    return _Style(ground, ink, size, min(pitch, (height - 24) // 4), int(rng.integers(8, 22)), case,
                  pick(rng, ("", ":", ":")), bool(rng.random() < 0.5))  # fmt: skip


def _shown(word: str, case: str) -> str:
    return {"lower": word.lower, "upper": word.upper, "title": word.capitalize}[case]()


def _lines(rng: np.random.Generator, pen: Pen, page: Page, style: _Style) -> None:
    """Title, then rows: keys at the left, values at the right or in columns, sentences word after word."""
    width, height = pen.picture.size
    used = (len(page.rows) + bool(page.title) + bool(page.head)) * style.pitch
    y = style.margin + style.pitch / 2 + rng.uniform(0, max(height - 2 * style.margin - used, 0))
    if page.title:
        text = _shown(page.title, pick(rng, ("upper", style.case)))
        size = style.size
        while size < 1.4 * style.size and pen.width(text, size + 1) < width - 2 * style.margin:
            size += 1
        left = pick(rng, (float(style.margin), (width - pen.width(text, size)) / 2))
        pen.write(text, left, y, size, style.ink, "title")
        y += style.pitch
        if style.ruled:
            _rule(rng, pen, y - style.pitch / 2, style)
    stops = _stops(rng, pen, page, style)
    if page.head:
        for column, stop in zip(page.head, stops[1:], strict=True):
            pen.write(_shown(column, style.case), stop, y, style.size, style.ink, "key", column)
        y += style.pitch
        _rule(rng, pen, y - style.pitch / 2, style)
    for row in page.rows:
        if row[0] == "total" and style.ruled:
            _rule(rng, pen, y - style.pitch / 2, style)
        _row(pen, page, row, stops, y, style)
        if page.kind == "table" and style.ruled:
            _rule(rng, pen, y + style.pitch / 2, style)
        y += style.pitch


def _row(pen: Pen, page: Page, row: tuple[str, ...], stops: list[float], y: float, style: _Style) -> None:
    if not page.keyed:
        x = float(style.margin)
        for word in row:
            x = pen.write(_shown(word, style.case), x, y, style.size, style.ink, "text") + 0.45 * style.size
        return
    end = style.end if page.kind == "form" else ""
    after = pen.write(_shown(row[0], style.case) + end, style.margin, y, style.size, style.ink, "key", row[0])
    right = pen.picture.size[0] - style.margin
    for cell, stop, column in zip(row[1:], stops[1:], page.head or ("",), strict=True):
        text = _shown(cell, style.case)
        x = right - pen.width(text, style.size) if page.kind == "receipt" else max(stop, after + 0.5 * style.size)
        pen.write(text, x, y, style.size, style.ink, "value", row[0], column)


def _fitted(pen: Pen, page: Page, style: _Style) -> _Style:
    """The style, its writing smaller where a row would run over the edge."""
    room, size = pen.picture.size[0] - 2 * style.margin, style.size
    while size > 12 and _needed(pen, page, style, size) > room:
        size -= 1
    return replace(style, size=size)


def _needed(pen: Pen, page: Page, style: _Style, size: int) -> float:
    """px that the widest row takes at `size` px."""
    wide = [[pen.width(_shown(cell, style.case), size) for cell in row] for row in page.rows]
    if not page.keyed:
        return max(sum(row) + 0.45 * size * (len(row) - 1) for row in wide)
    columns = list(zip(*wide, strict=True))
    heads = [0.0, *(pen.width(_shown(column, style.case), size) for column in page.head or ("",))]
    cells = [max(head, *column) for head, column in zip(heads, columns, strict=True)]
    return sum(cells) + 1.5 * size + 0.5 * size * (len(cells) - 2)


def _stops(rng: np.random.Generator, pen: Pen, page: Page, style: _Style) -> list[float]:
    """Where each cell of a row begins."""
    if not page.keyed:
        return []
    longest = max(pen.width(_shown(row[0], style.case) + style.end, style.size) for row in page.rows)
    stop = style.margin + longest + rng.uniform(0.6, 1.2) * style.size
    wide = [pen.width(_shown(c, style.case), style.size) for c in page.head] or [0.0]
    spare = max(pen.picture.size[0] - style.margin - stop - sum(wide), 0) / (len(wide) + 1)
    stops = [float(style.margin)]
    for w in wide:
        stops.append(stop)
        stop += w + min(spare, 2 * style.size) + 0.5 * style.size
    return stops


def _rule(rng: np.random.Generator, pen: Pen, y: float, style: _Style) -> None:
    width = pen.picture.size[0]
    if rng.random() < 0.3:
        for x in range(style.margin, width - style.margin, 8):
            pen.draw.line([(x, y), (x + 4, y)], style.ink)
    else:
        pen.draw.line([(style.margin, y), (width - style.margin, y)], style.ink)


def _sign(rng: np.random.Generator, pen: Pen, page: Page, style: _Style) -> None:
    """Large letters on a coloured plate, with or without an arrow."""
    width, height = pen.picture.size
    color = pick(rng, list(COLORS))
    plate, bright = paint(rng, color), np.dot(COLORS[color], (0.3, 0.59, 0.11)) > 135
    ink: Color = (15, 15, 20) if bright else (250, 250, 245)
    rows = len(page.rows) + 1.6 * bool(page.arrow)
    longest = max(page.rows, key=lambda row: len(" ".join(row)))
    size = int(min((height - 40) / rows / 1.4, float(rng.integers(26, 46))))
    while size > 14 and pen.width(_shown(" ".join(longest), style.case) + "n", size) > width - 48:
        size -= 1
    pitch = max(PITCH, round(1.4 * size))
    tall = min(rows * pitch + 16, height - 8)
    top = rng.uniform(4, max(height - tall - 4, 4.5))
    pen.draw.rounded_rectangle([6, top, width - 6, top + tall], int(rng.integers(0, 18)), fill=plate,
                               outline=ink, width=int(rng.integers(0, 4)))  # fmt: skip
    y = top + 8 + pitch / 2
    for row in page.rows:
        text = " ".join(row)
        x = (width - pen.width(_shown(text, style.case), size)) / 2
        for word in row:
            role = "key" if known(word) else "value" if len(row) > 1 else "text"
            x = pen.write(_shown(word, style.case), x, y, size, ink, role, row[0] if len(row) > 1 else "")
            x += pen.width(" ", size)
        y += pitch
    if page.arrow:
        arrow(pen, page.arrow, width * rng.uniform(0.3, 0.7), y + 0.3 * pitch, 1.5 * pitch, ink)
