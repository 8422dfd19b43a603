"""Draws a window: light or dark, flat or raised, in many typefaces and sizes; now and then as a JPEG.

Deterministic: the same seed and size give the same picture on the same library versions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruning.scenes.drawn import Drawn, generator, pick
from pruning.scenes.interfaces.windows import Window, compose
from pruning.scenes.pen import Color, Pen, age, paint, shade
from pruning.scenes.render import COLORS
from pruning.scenes.typefaces import faces

_WORLD = 3


@dataclass(frozen=True)
class _Theme:
    """Colours and sizes of one window; `size`, `pitch`, `margin`, `corner` in px."""

    panel: Color
    ink: Color
    edge: Color
    well: Color
    accent: Color
    size: int
    pitch: int
    margin: int
    corner: int
    title_case: bool


def draw(seed: int, height: int = 336, width: int = 336) -> Drawn:
    """Draw the window of `seed`. Raises ValueError as `generator` does."""
    rng = generator(_WORLD, seed, height, width)
    theme = _theme(rng, height)
    pen = Pen(height, width, shade(rng, 40, 230, 30), pick(rng, faces(seed)))
    cells = int((width - 2 * theme.margin) / max(pen.width("n0", theme.size) / 2, 1))
    window = compose(rng, (height - 12) // theme.pitch, cells)
    _window(rng, pen, window, theme)
    image = age(rng, pen.pixels(), 0.3)
    return Drawn(seed, image, window, tuple(pen.writings), tuple(pen.marks))


def _theme(rng: np.random.Generator, height: int) -> _Theme:
    size = int(rng.integers(15, 22))
    pitch = min(max(30, round(size * rng.uniform(1.6, 2.2))), (height - 12) // 6)
    accent = paint(rng, pick(rng, list(COLORS)))
    margin, corner = int(rng.integers(10, 20)), int(rng.integers(0, 8))
    if rng.random() < 0.35:
        panel, ink = shade(rng, 25, 70), shade(rng, 215, 255)
        edge, well = shade(rng, 100, 150), shade(rng, 10, 45)
    else:
        panel, ink = shade(rng, 222, 255, 6), shade(rng, 0, 60)
        edge, well = shade(rng, 120, 180), shade(rng, 245, 255, 4)
    return _Theme(panel, ink, edge, well, accent, size, pitch, margin, corner, bool(rng.random() < 0.7))


def _shown(word: str, theme: _Theme) -> str:
    return word.capitalize() if theme.title_case else word


def _window(rng: np.random.Generator, pen: Pen, window: Window, theme: _Theme) -> None:
    width, height = pen.picture.size
    pen.draw.rounded_rectangle([3, 3, width - 4, height - 4], theme.corner, fill=theme.panel, outline=theme.edge)
    y = 5 + theme.pitch / 2
    if window.title:
        _title(rng, pen, window.title, y, theme)
        y += theme.pitch
    if window.tabs:
        _tabs(pen, window, y, theme)
        y += theme.pitch
    rows = [(kind, *row) for kind, group in (("setting", window.settings), ("field", window.fields),
                                             ("badge", window.badges)) for row in group]  # fmt: skip
    order = rng.permutation(len(rows)) if rng.random() < 0.4 else np.arange(len(rows))
    right = bool(rng.random() < 0.4)
    stop = theme.margin + max(pen.width(_shown(str(row[1]), theme), theme.size) for row in rows) + theme.size
    for i in order.tolist():
        kind, name, about = rows[i]
        if kind == "setting":
            _setting(pen, window.control, str(name), bool(about), right, y, theme)
        elif kind == "field":
            _field(pen, str(name), str(about), stop, y, theme)
        else:
            _badge(pen, str(name), str(about), stop, y, theme)
        y += theme.pitch
    if window.buttons:
        _buttons(rng, pen, window, height - 5 - theme.pitch / 2 if rng.random() < 0.6 else y, theme)


def _title(rng: np.random.Generator, pen: Pen, title: str, y: float, theme: _Theme) -> None:
    width = pen.picture.size[0]
    bar = rng.random() < 0.6
    if bar:
        pen.draw.rectangle([4, 4, width - 5, y + theme.pitch / 2 - 1], fill=theme.accent)
    light = np.dot(theme.accent if bar else theme.panel, (0.3, 0.59, 0.11)) > 130
    ink: Color = (10, 10, 15) if light else (250, 250, 250)
    pen.write(_shown(title, theme), theme.margin, y, theme.size, ink, "title")
    for i in range(3):
        x = width - 14 - 14 * i
        pen.draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=theme.edge)


def _tabs(pen: Pen, window: Window, y: float, theme: _Theme) -> None:
    half, x = theme.pitch / 2 - 3, float(theme.margin)
    for name in window.tabs:
        text = _shown(name, theme)
        wide = pen.width(text, theme.size) + 12
        box = (x, y - half, x + wide, y + half)
        active = name == window.active
        pen.draw.rectangle(box, fill=theme.well if active else theme.panel, outline=theme.edge)
        if active:
            pen.draw.rectangle((x, y + half - 3, x + wide, y + half), fill=theme.accent)
        pen.write(text, x + 6, y - 1, theme.size, theme.ink, "key", name)
        pen.mark("active" if active else "tab", box, of=name)
        x += wide + 3


def _setting(pen: Pen, control: str, name: str, on: bool, right: bool, y: float, theme: _Theme) -> None:
    wide, half = (18, 9) if control == "box" else (32, 8)
    x = pen.picture.size[0] - theme.margin - wide if right else theme.margin
    box = (x, y - half, x + wide, y + half)
    if control == "box":
        pen.draw.rounded_rectangle(box, min(theme.corner, 4), fill=theme.accent if on else theme.well,
                                   outline=theme.ink, width=2)  # fmt: skip
        if on:
            light = np.dot(theme.accent, (0.3, 0.59, 0.11)) > 130
            tick: Color = (10, 10, 15) if light else (255, 255, 255)
            pen.draw.line([(x + 4, y), (x + 8, y + 5), (x + 14, y - 5)], tick, 3)
    else:
        pen.draw.rounded_rectangle(box, half, fill=theme.accent if on else theme.edge)
        knob = x + (wide - half if on else half)
        pen.draw.ellipse([knob - 6, y - 6, knob + 6, y + 6], fill=(255, 255, 255))
    pen.mark("on" if on else "off", box, of=name)
    pen.write(_shown(name, theme), theme.margin if right else x + wide + 8, y, theme.size, theme.ink, "key", name)


def _field(pen: Pen, name: str, content: str, stop: float, y: float, theme: _Theme) -> None:
    half = theme.pitch / 2 - 3
    pen.write(_shown(name, theme), theme.margin, y, theme.size, theme.ink, "key", name)
    box = (stop, y - half, pen.picture.size[0] - theme.margin, y + half)
    pen.draw.rounded_rectangle(box, theme.corner, fill=theme.well, outline=theme.edge)
    pen.write(_shown(content, theme), stop + 6, y, theme.size, theme.ink, "value", name)
    pen.mark("field", box, of=name)


def _badge(pen: Pen, name: str, number: str, stop: float, y: float, theme: _Theme) -> None:
    pen.write(_shown(name, theme), theme.margin, y, theme.size, theme.ink, "key", name)
    half, wide = max(theme.size * 0.6, 10), pen.width(number, theme.size) + 14
    box = (stop, y - half, stop + wide, y + half)
    pen.draw.rounded_rectangle(box, half, fill=(205, 30, 40))
    pen.mark("badge", box, of=name)
    pen.write(number, stop + 7, y, theme.size, (255, 255, 255), "value", name)


def _buttons(rng: np.random.Generator, pen: Pen, window: Window, y: float, theme: _Theme) -> None:
    half, gap = theme.pitch / 2 - 2, 8
    texts = [_shown(name, theme) for name, _ in window.buttons]
    size = theme.size
    while size > 12 and sum(pen.width(t, size) + 16 + gap for t in texts) > pen.picture.size[0] - 16:
        size -= 1
    wides = [pen.width(text, size) + 16 for text in texts]
    x = 8 + rng.uniform(0, max(pen.picture.size[0] - 16 - sum(wides) - gap * (len(wides) - 1), 0))
    for (name, color), text, wide in zip(window.buttons, texts, wides, strict=True):
        box = (x, y - half, x + wide, y + half)
        bright = np.dot(COLORS[color], (0.3, 0.59, 0.11)) > 135
        ink: Color = (10, 10, 15) if bright else (250, 250, 250)
        pen.draw.rounded_rectangle(box, theme.corner, fill=paint(rng, color))
        pen.write(text, x + 8, y, size, ink, "key", name)
        pen.mark("button", box, color, name)
        x += wide + gap
