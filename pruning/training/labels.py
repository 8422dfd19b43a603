"""What every visual token of a picture shows: the targets of the vision stage, for all worlds.

Scenes give shape, colour, digit and centre. The other worlds give what is written (the first characters in a token, and
which of their word's characters the first one is), what it belongs to, and what marks stand for. So that reading, rows,
columns and axes are there before the language model has to bind them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pruning.scenes.drawn import MARK_ROLES, TEXT_ROLES, Drawn, Writing
from pruning.scenes.render import COLORS, DIGITS, SHAPES, Scene
from pruning.scenes.words import CHARACTERS, COLUMNS, WORLD_WORDS
from pruning.training.shipped import CELL

IGNORED: Final = -100
SLOTS: Final = 4
"""Characters of a token that are told apart; a token of 28 px holds two or three of most sizes."""
FURTHEST: Final = 12
"""Place in its word of a token's first character, counted up to this."""
LEVELS: Final = 11
VALUE: Final = "0123456789.-%"

HEADS: Final[dict[str, int]] = {
    "shape": len(SHAPES) + 1, "color": len(COLORS) + 1, "digit": len(DIGITS) + 1, "center": 2,
    **{f"glyph{i}": len(CHARACTERS) + 1 for i in range(SLOTS)}, "start": FURTHEST + 1, "role": len(TEXT_ROLES) + 1,
    "of": len(WORLD_WORDS) + 1, "under": len(COLUMNS) + 1, "mark": len(MARK_ROLES) + 1,
    **{f"value{i}": len(VALUE) + 1 for i in range(SLOTS)}, "level": LEVELS + 1,
}  # fmt: skip
"""Labels and how many classes each has; 0 is "none"."""
AT: Final = {name: i for i, name in enumerate(HEADS)}
CLASSES: Final = ("ground", *SHAPES, *DIGITS)
"""What a pixel of a scene shows, and a token of any model, for modules that tell tokens apart by class."""

Labels = NDArray[np.int64]


def labels(picture: Any) -> Labels:
    """(N, heads) int64, raster order: the labels of every visual token of a picture of any world."""
    return scene_labels(picture) if isinstance(picture, Scene) else drawn_labels(picture)


@cache
def _cells(height: int, width: int) -> NDArray[np.int64]:
    rows, columns = np.arange(height) // CELL, np.arange(width) // CELL
    return (rows[:, None] * (width // CELL) + columns[None]).ravel()


def scene_labels(scene: Scene) -> Labels:
    """A token belongs to the object that covers most of it, if that is an eighth of it; less is ignored, as are tokens
    that hold only a piece of a digit. The token at an object's centre always belongs to it.
    """
    height, width = scene.image.shape[:2]
    n, m = height // CELL * (width // CELL), len(scene.objects) + 1
    cells = _cells(height, width) * m
    area = CELL * CELL
    covered = np.bincount(cells + scene.owner.ravel(), minlength=n * m).reshape(n, m)[:, 1:]
    inked = np.bincount(cells + scene.ink.ravel(), minlength=n * m).reshape(n, m)[:, 1:]
    best = covered.argmax(1)
    share = covered.max(1) / area
    found = np.zeros((n, len(HEADS)), np.int64)
    shapes = np.array([SHAPES.index(o.shape) + 1 for o in scene.objects])
    colors = np.array([list(COLORS).index(o.color) + 1 for o in scene.objects])
    digits = np.array([DIGITS.index(o.digit) + 1 if o.digit else 0 for o in scene.objects])
    glyphs = np.array([CHARACTERS.index(o.digit) + 1 if o.digit else 0 for o in scene.objects])
    owned = share >= 0.125
    found[owned, 0], found[owned, 1] = shapes[best[owned]], colors[best[owned]]
    found[(share > 0.02) & ~owned, :2] = IGNORED
    most = inked.argmax(1)
    read = (inked.max(1) >= 0.25 * area) | (inked.max(1) >= 0.5 * np.maximum(inked.sum(0)[most], 1))
    found[inked.max(1) > 0, AT["digit"]] = found[inked.max(1) > 0, AT["glyph0"]] = IGNORED
    found[read, AT["digit"]], found[read, AT["glyph0"]] = digits[most[read]], glyphs[most[read]]
    found[inked.max(1) > 0, AT["start"]] = found[inked.max(1) > 0, AT["role"]] = IGNORED
    for i, item in enumerate(scene.objects):
        cell = int(item.y) // CELL * (width // CELL) + int(item.x) // CELL
        found[cell, :2], found[cell, AT["center"]] = (shapes[i], colors[i]), 1
    return found


def pixel_classes(scene: Scene) -> NDArray[np.int64]:
    """(H, W) int64, of CLASSES: the digit where one is written, else the object's shape, else the ground."""
    shapes = np.array([0, *(CLASSES.index(o.shape) for o in scene.objects)])
    digits = np.array([0, *(CLASSES.index(o.digit) if o.digit else 0 for o in scene.objects)])
    return np.where(scene.ink > 0, digits[scene.ink], shapes[scene.owner])


def token_classes(shown: NDArray[np.int64], rects: NDArray[np.float32]) -> Labels:
    """(N,) int64: the class of CLASSES of tokens that lie at `rects` (N, 4) px on pixels of these classes (H, W).

    That with the most pixels of a digit, if they are a quarter of the token; else of a shape, if it is an eighth; else
    the ground; IGNORED where less than that of something is seen, more than a fiftieth, and of empty rectangles.
    """
    first = 1 + len(SHAPES)
    found = np.full(len(rects), IGNORED)
    for i, (x0, y0, x1, y1) in enumerate(np.rint(rects).astype(int)):
        pixels = shown[y0:y1, x0:x1]
        if not pixels.size:
            continue
        counts = np.bincount(pixels.ravel(), minlength=len(CLASSES)) / pixels.size
        digit, shape = first + int(counts[first:].argmax()), 1 + int(counts[1:first].argmax())
        if counts[digit] >= 0.25:
            found[i] = digit
        elif counts[1:first].max() >= 0.125:
            found[i] = shape
        elif counts[1:].sum() <= 0.02:
            found[i] = 0
    return found


def drawn_labels(picture: Drawn) -> Labels:
    """Marks first, then what is written, which has the last word on what a token belongs to."""
    height, width = picture.image.shape[:2]
    gh, gw = height // CELL, width // CELL
    found = np.zeros((gh * gw, len(HEADS)), np.int64)
    found[:, [AT["shape"], AT["color"], AT["digit"]]] = IGNORED
    for mark in picture.marks:
        _mark(found, mark, gh, gw)
    held: dict[int, list[tuple[int, float, int, int]]] = {}
    for w, writing in enumerate(picture.writings):
        for i, (x, y) in enumerate(writing.centers.tolist()):
            column, row = int(x // CELL), int(y // CELL)
            if 0 <= row < gh and 0 <= column < gw:
                held.setdefault(row * gw + column, []).append((int(y // (CELL // 2)), x, w, i))
    for cell, glyphs in held.items():
        _writing(found[cell], sorted(glyphs), picture.writings)
    return found


def _mark(found: Labels, mark: Any, gh: int, gw: int) -> None:
    """A mark is under every token of which it covers a third, and under that of its middle."""
    x0, y0, x1, y1 = (side / CELL for side in mark.box)
    middle = (min(max(int((y0 + y1) / 2), 0), gh - 1), min(max(int((x0 + x1) / 2), 0), gw - 1))
    cells = {middle}
    for row in range(max(int(y0), 0), min(int(y1) + 1, gh)):
        for column in range(max(int(x0), 0), min(int(x1) + 1, gw)):
            across, down = min(x1, column + 1) - max(x0, column), min(y1, row + 1) - max(y0, row)
            if across * down > 0.33:
                cells.add((row, column))
    about = {"mark": MARK_ROLES.index(mark.role) + 1, "of": _word(mark.of),
             "color": list(COLORS).index(mark.color) + 1 if mark.color else 0}  # fmt: skip
    if mark.level is not None:
        about["level"] = 1 + round(min(max(mark.level, 0), 1) * (LEVELS - 1))
    about |= {f"value{i}": VALUE.index(c) + 1 for i, c in enumerate(mark.value[:SLOTS])}
    for row, column in cells:
        for name, label in about.items():
            found[row * gw + column, AT[name]] = label
    if mark.role != "bar":  # its tip is marked too, and one thing has one centre
        found[middle[0] * gw + middle[1], AT["center"]] = 1


def _writing(found: Labels, glyphs: list[tuple[int, float, int, int]], writings: tuple[Writing, ...]) -> None:
    owners = [w for _, _, w, _ in glyphs]
    first = writings[max(set(owners), key=lambda w: (owners.count(w), -w))]
    found[AT["role"]] = TEXT_ROLES.index(first.role) + 1
    found[AT["start"]] = min(glyphs[0][3] + 1, FURTHEST)
    if first.of or not found[AT["mark"]]:
        found[AT["of"]] = _word(first.of)
    found[AT["under"]] = COLUMNS.index(first.under) + 1 if first.under in COLUMNS else 0
    for slot, (_, _, w, i) in enumerate(glyphs[:SLOTS]):
        found[AT[f"glyph{slot}"]] = CHARACTERS.find(writings[w].text[i].lower()) + 1


@cache
def _words() -> dict[str, int]:
    return {"": 0} | {word: i + 1 for i, word in enumerate(WORLD_WORDS)}


def _word(word: str) -> int:
    return _words().get(word, 0)
