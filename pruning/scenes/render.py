"""Procedural scenes: coloured shapes, some with a digit, on lit, textured, cluttered ground.

Why so: importance and diversity part only where objects differ much in size (one visual token to forty, so that
importance alone spends its budget on the big one) and where the ground is full of varied, irrelevant clutter (so that
diversity alone spends its budget there). Clutter is pale or grey, objects are saturated: what matters is learnable, yet
every clutter patch looks different from its neighbours.

Deterministic: the same seed and size give the same scene on the same library versions. This module knows no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "cross", "ring")
COLORS: Final[dict[str, tuple[int, int, int]]] = {  # RGB at full light
    "red": (224, 36, 40),
    "orange": (250, 140, 20),
    "yellow": (245, 222, 40),
    "green": (40, 165, 60),
    "cyan": (40, 205, 220),
    "blue": (35, 75, 220),
    "purple": (135, 45, 190),
    "pink": (250, 130, 190),
}
DIGITS: Final = tuple("123456789")
HELD_OUT: Final = 1_000_000_000
"""Seeds from here on are never used in training."""

SMALLEST, LARGEST = 30, 172  # px across: about one visual token of 28 px, and about forty of them
SMALLEST_WITH_DIGIT = 46

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class SceneObject:
    """One object. `x`, `y`: centre in px; `size`: px across; `digit`: what is written on it, or None."""

    shape: str
    color: str
    digit: str | None
    x: float
    y: float
    size: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered scene.

    `image` (H, W, 3) uint8 RGB. `owner` (H, W) uint8: 0 ground, i + 1 the i-th object. `ink` (H, W) uint8: 0 none,
    i + 1 the box of the digit on the i-th object.
    """

    seed: int
    image: Pixels
    objects: tuple[SceneObject, ...]
    owner: Pixels
    ink: Pixels


def render(seed: int, height: int = 336, width: int = 336) -> Scene:
    """Draw the scene of `seed`. Raises ValueError for sides outside 112 to 896 px or a negative seed."""
    if min(height, width) < 112 or max(height, width) > 896 or seed < 0:
        raise ValueError(f"scene {seed} of {height}x{width} px: sides must be 112 to 896 px and the seed at least 0.")
    rng = np.random.default_rng([seed, height, width])
    image = draw_ground(rng, height, width)
    draw_clutter(rng, image)
    owner = np.zeros((height, width), np.uint8)
    ink = np.zeros((height, width), np.uint8)
    objects = place_objects(rng, height, width)
    for i, item in enumerate(objects):
        draw_object(rng, image, item, owner, ink, i + 1)
    return Scene(seed, lit(rng, image), objects, owner, ink)


def _pale(rng: np.random.Generator, spread: float = 16) -> tuple[int, int, int]:
    grey = rng.uniform(45, 215)
    r, g, b = np.clip(grey + rng.uniform(-spread, spread, 3), 0, 255)
    return int(r), int(g), int(b)


def draw_ground(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Pale noise at two scales."""
    coarse = (width // 4 + 1, height // 4 + 1)  # smooth by design: a quarter of the size is enough
    ground = np.empty((coarse[1], coarse[0], 3), np.float32)
    ground[:] = _pale(rng)
    for cell, strength in ((90, 30.0), (22, 14.0)):
        grid = rng.normal(0, strength, (height // cell + 2, width // cell + 2, 1)).astype(np.float32)
        tint = rng.normal(0, strength / 5, (*grid.shape[:2], 3)).astype(np.float32)
        ground += cv2.resize(grid + tint, coarse, interpolation=cv2.INTER_CUBIC)
    return cv2.resize(np.clip(ground, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)


def draw_clutter(rng: np.random.Generator, image: Pixels) -> None:
    """Pale things of many kinds that no question asks about; drawn in place."""
    height, width = image.shape[:2]
    count = int(rng.integers(4, 13) * height * width / 336**2) + 1
    for _ in range(count):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        size = int(rng.uniform(14, 70))
        color, kind = _pale(rng, 22), rng.integers(6)
        if kind == 0:  # pebble
            axes = (size // 2, int(size * rng.uniform(0.2, 0.5)))
            cv2.ellipse(image, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
        elif kind == 1:  # hatching
            step, dx = int(rng.integers(5, 11)), int(rng.uniform(-size, size))
            for offset in range(0, size, step):
                cv2.line(image, (x + offset, y), (x + offset + dx // 2, y + size), color, 2, cv2.LINE_AA)
        elif kind == 2:  # wire
            points = np.cumsum(rng.integers(-size // 2, size // 2 + 1, (6, 2)), 0) + np.array([x, y])
            cv2.polylines(image, [points.astype(np.int32)], False, color, int(rng.integers(1, 4)), cv2.LINE_AA)
        elif kind == 3:  # gravel
            for px, py in rng.integers(-size // 2, size // 2 + 1, (12, 2)):
                cv2.circle(image, (x + int(px), y + int(py)), int(rng.integers(1, 5)), color, -1, cv2.LINE_AA)
        elif kind == 4:  # shard
            points = rng.integers(-size // 2, size // 2 + 1, (int(rng.integers(3, 6)), 2)) + np.array([x, y])
            cv2.fillPoly(image, [cv2.convexHull(points.astype(np.int32))], color, cv2.LINE_AA)
        else:  # tiles
            step = int(rng.integers(5, 12))
            for ty in range(0, size, step):
                for tx in range((ty // step % 2) * step, size, 2 * step):
                    cv2.rectangle(image, (x + tx, y + ty), (x + tx + step - 1, y + ty + step - 1), color, -1)


def place_objects(rng: np.random.Generator, height: int, width: int) -> tuple[SceneObject, ...]:
    """Sizes log-uniform, largest first, no two touching; shapes and colours repeat now and then, so counting counts."""
    area = height * width / 336**2
    count = int(rng.integers(2, 8)) if area > 0.6 else int(rng.integers(1, 6))
    largest = min(LARGEST, 0.5 * min(height, width))
    sizes = np.sort(np.exp(rng.uniform(math.log(SMALLEST), math.log(largest), count)))[::-1]
    placed: list[SceneObject] = []
    for size in sizes.tolist():
        for _ in range(12):
            r = size / 2 + 2
            x, y = rng.uniform(r, width - r), rng.uniform(r, height - r)
            if all(math.hypot(x - o.x, y - o.y) > 0.56 * (size + o.size) + 4 for o in placed):
                again = placed[int(rng.integers(len(placed)))] if placed else None
                shape, color = str(rng.choice(SHAPES)), str(rng.choice(list(COLORS)))
                if again and rng.random() < 0.35:
                    shape = again.shape
                if again and rng.random() < 0.3:
                    color = again.color
                has_digit = size >= SMALLEST_WITH_DIGIT and shape != "ring" and rng.random() < 0.7
                digit = str(rng.choice(DIGITS)) if has_digit else None
                placed.append(SceneObject(shape, color, digit, x, y, size))
                break
    order = rng.permutation(len(placed))
    return tuple(placed[i] for i in order)


def _outline(shape: str, angle: float) -> NDArray[np.float64]:
    """Corners (P, 2) of `shape` about the origin, in units of half its size."""
    if shape == "square":
        points = np.array([(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)])
    elif shape == "triangle":
        points = np.array([(0, -0.95), (0.95, 0.75), (-0.95, 0.75)])
    elif shape == "star":
        turn = np.arange(10) * math.pi / 5 - math.pi / 2
        points = np.where(np.arange(10) % 2, 0.46, 1.0)[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    elif shape == "cross":
        a, b = 0.33, 0.96
        points = np.array([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a),
                           (-b, -a), (-a, -a)])  # fmt: skip
    else:  # heart
        t = np.linspace(0, 2 * math.pi, 40)
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
        points = np.stack([16 * np.sin(t) ** 3, y - 2.5], 1) / 15.5
    c, s = math.cos(angle), math.sin(angle)
    return points @ np.array([(c, s), (-s, c)])


def draw_object(
    rng: np.random.Generator, image: Pixels, item: SceneObject, owner: Pixels, ink: Pixels, mark: int
) -> None:
    """Draw one object in place, shaded and slightly textured, and mark where it and its digit lie."""
    height, width = image.shape[:2]
    half = item.size / 2
    x0, y0 = max(int(item.x - half) - 2, 0), max(int(item.y - half) - 2, 0)
    x1, y1 = min(int(item.x + half) + 3, width), min(int(item.y + half) + 3, height)
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    center = (round((item.x - x0) * 16), round((item.y - y0) * 16))
    if item.shape == "circle":
        cv2.circle(mask, center, round(half * 0.94 * 16), 255, -1, cv2.LINE_AA, 4)
    elif item.shape == "ring":
        thick = max(int(half * 0.4), 4)
        cv2.circle(mask, center, round((half - thick / 2) * 16), 255, thick, cv2.LINE_AA, 4)
    else:
        points = _outline(item.shape, rng.uniform(-0.2, 0.2)) * half * 16 + center
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 255, cv2.LINE_AA, 4)
    box = image[y0:y1, x0:x1]
    h, w = mask.shape
    shade = rng.uniform(0.8, 1.12, (2, 2, 1)).astype(np.float32) + rng.normal(0, 0.02, (2, 2, 3)).astype(np.float32)
    grain = rng.normal(1, 0.07, (h // 7 + 2, w // 7 + 2)).astype(np.float32)
    paint = cv2.resize(shade, (w, h)) * cv2.resize(grain, (w, h))[..., None]
    paint *= np.asarray(COLORS[item.color], np.float32)
    alpha = (mask.astype(np.float32) / 255)[..., None]
    box[:] = np.clip(box + (paint - box) * alpha, 0, 255)
    owner[y0:y1, x0:x1][mask > 127] = mark
    if item.digit is not None:
        _draw_digit(rng, image, item, ink, mark)


def _draw_digit(rng: np.random.Generator, image: Pixels, item: SceneObject, ink: Pixels, mark: int) -> None:
    tall = float(np.clip(item.size * rng.uniform(0.44, 0.52), 22, 44))
    glyph = _glyphs()[item.digit or ""]
    w = max(round(tall * glyph.shape[1] / glyph.shape[0]), 3)
    small = cv2.resize(glyph, (w, round(tall)), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255
    low = 0.1 * item.size if item.shape in ("triangle",) else 0.0
    x0, y0 = round(item.x - w / 2), round(item.y + low - tall / 2)
    box = image[y0 : y0 + small.shape[0], x0 : x0 + w]
    bright = np.dot(COLORS[item.color], (0.3, 0.59, 0.11)) > 135
    tone = np.float32(rng.uniform(0, 35) if bright else rng.uniform(225, 255))
    box[:] = box + (tone - box) * small
    ink[y0 : y0 + small.shape[0], x0 : x0 + w] = mark


@cache
def _glyphs() -> dict[str, Pixels]:
    """White-on-black digits, cropped, from the DejaVu Sans Bold that matplotlib brings along."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf"), 96)
    glyphs = {}
    for digit in DIGITS:
        picture = Image.new("L", (128, 128))
        ImageDraw.Draw(picture).text((24, 4), digit, 255, font)
        glyphs[digit] = np.asarray(picture.crop(picture.getbbox()))
    return glyphs


def lit(rng: np.random.Generator, image: Pixels) -> Pixels:
    """Uneven light over the whole picture, and sensor noise."""
    height, width = image.shape[:2]
    lamp = rng.uniform(0.72, 1.12, (3, 3, 1)).astype(np.float32).repeat(3, 2)
    light = cv2.resize(lamp, (width, height), interpolation=cv2.INTER_LINEAR)
    y, x = rng.integers(0, 128, 2)
    noise = _noise()[y : y + height, x : x + width]
    return cv2.add(cv2.multiply(image, light, dtype=cv2.CV_32F), noise, dtype=cv2.CV_8U)


@cache
def _noise() -> NDArray[np.float32]:
    return np.random.default_rng(7).normal(0, 3, (1024, 1024, 1)).astype(np.float32).repeat(3, 2)
