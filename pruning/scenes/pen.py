"""Writes and draws on a sheet, and remembers what went where; then ages the sheet as a scanner or camera would."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pruning.scenes.drawn import Mark, Writing
from pruning.scenes.render import COLORS, Pixels
from pruning.scenes.typefaces import font

Color = tuple[int, int, int]
PITCH: Final = 30
"""Smallest px from line to line: a visual token of 28 px then holds characters of one line."""


def shade(rng: np.random.Generator, low: float, high: float, tint: float = 10) -> Color:
    """A grey between `low` and `high`, tinted a little."""
    r, g, b = np.clip(rng.uniform(low, high) + rng.uniform(-tint, tint, 3), 0, 255)
    return int(r), int(g), int(b)


def paint(rng: np.random.Generator, name: str) -> Color:
    """A named colour, a little lighter or darker."""
    r, g, b = np.clip(np.array(COLORS[name]) * rng.uniform(0.85, 1.05) + rng.uniform(-8, 8, 3), 0, 255)
    return int(r), int(g), int(b)


class Pen:
    """A sheet of `ground` and one typeface."""

    def __init__(self, height: int, width: int, ground: Color, face: str) -> None:
        self.picture = Image.new("RGB", (width, height), ground)
        self.draw = ImageDraw.Draw(self.picture)
        self.face = face
        self.writings: list[Writing] = []
        self.marks: list[Mark] = []

    def width(self, text: str, size: int) -> float:
        """px that `text` takes at `size` px."""
        return font(self.face, size).getlength(text)

    def write(
        self, text: str, x: float, y: float, size: int, ink: Color, role: str, of: str = "", under: str = ""
    ) -> float:
        """Write `text` from `x` on, vertically about `y`; returns where it ends."""
        face = font(self.face, size)
        self.draw.text((x, y), text, ink, face, anchor="lm")
        ends = np.array([face.getlength(text[: i + 1]) for i in range(len(text))])
        wide = np.array([face.getlength(c) for c in text])
        centers = np.stack([x + ends - wide / 2, np.full(len(text), y)], 1).astype(np.float32)
        self.writings.append(Writing(text, centers, role, of, under))
        return x + float(ends[-1])

    def mark(
        self, role: str, box: tuple[float, float, float, float], color: str = "", of: str = "", value: str = ""
    ) -> None:
        """Remember a thing that was drawn in `box`; the rest as `Mark` names it."""
        self.marks.append(Mark(role, box, color, of, value))

    def pixels(self) -> Pixels:
        """The sheet (H, W, 3) uint8."""
        return np.array(self.picture)


def turn(
    image: Pixels, writings: list[Writing], marks: list[Mark], degrees: float, scale: float, ground: Color
) -> tuple[Pixels, list[Writing], list[Mark]]:
    """Sheet and places, turned about the middle and scaled; boxes keep their axes and move with their middle."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=ground)
    linear, shift = matrix[:, :2].astype(np.float32), matrix[:, 2].astype(np.float32)
    writings = [replace(w, centers=w.centers @ linear.T + shift) for w in writings]
    moved = []
    for mark in marks:
        x0, y0, x1, y1 = mark.box
        x, y = linear @ np.array([(x0 + x1) / 2, (y0 + y1) / 2], np.float32) + shift
        w, h = (x1 - x0) / 2 * scale, (y1 - y0) / 2 * scale
        moved.append(replace(mark, box=(float(x - w), float(y - h), float(x + w), float(y + h))))
    return image, writings, moved


def age(rng: np.random.Generator, image: Pixels, strength: float = 1.0) -> Pixels:
    """Uneven light, grain, sometimes blur, sometimes JPEG."""
    height, width = image.shape[:2]
    lamp = rng.uniform(1 - 0.22 * strength, 1.04, (2, 2, 1)).astype(np.float32).repeat(3, 2)
    grain = rng.normal(0, rng.uniform(0.5, 6) * strength, (height // 2 + 1, width // 2 + 1)).astype(np.float32)
    grain = cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)[..., None].repeat(3, 2)
    image = cv2.add(cv2.multiply(image, cv2.resize(lamp, (width, height)), dtype=cv2.CV_32F), grain, dtype=cv2.CV_8U)
    if rng.random() < 0.25 * strength:
        image = cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.4, 0.8)))
    if rng.random() < 0.5 * strength:
        image = jpeg(image, int(rng.integers(45, 95)))
    return image


def jpeg(image: Pixels, quality: int) -> Pixels:
    """The picture after JPEG at `quality`."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])


def arrow(pen: Pen, direction: str, x: float, y: float, size: float, ink: Color) -> None:
    """A block arrow of `size` px about (x, y)."""
    angle = {"right": 0.0, "down": math.pi / 2, "left": math.pi, "up": -math.pi / 2}[direction]
    shape = np.array([(-0.5, -0.13), (0.05, -0.13), (0.05, -0.4), (0.5, 0), (0.05, 0.4), (0.05, 0.13), (-0.5, 0.13)])
    c, s = math.cos(angle), math.sin(angle)
    points = shape @ np.array([(c, s), (-s, c)]) * size + (x, y)
    pen.draw.polygon([tuple(p) for p in points], fill=ink)
    pen.mark("arrow", (x - size / 2, y - size / 2, x + size / 2, y + size / 2), of=direction)
