"""Moving scenes: the objects of a scene enter, leave, move or change their colour while its ground stays as it is.

Deterministic, as `render`: the same seed, number of frames and size give the same clip on the same library versions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import cv2
import numpy as np

from pruning.scenes.render import (
    COLORS,
    Pixels,
    SceneObject,
    draw_clutter,
    draw_ground,
    draw_object,
    lit,
    place_objects,
)

Does = Literal["stays", "moves", "enters", "leaves", "turns"]
DOES: Final[tuple[Does, ...]] = ("moves", "enters", "leaves", "turns", "stays")
OUTSIDE: Final = 1.1  # of its size: how far beyond the edge an object is that is not seen


@dataclass(frozen=True)
class Actor:
    """An object of a moving scene, as it is in the first frame, and what it does.

    x, y: its centre in the last frame, px. color: in the last frame; the change comes in one step. starts, stops: the
    frames between which it moves, or changes its colour.
    """

    item: SceneObject
    does: Does
    x: float
    y: float
    color: str
    starts: int
    stops: int

    def at(self, frame: int) -> SceneObject:
        """The object as it is in a frame; outside of the picture where it has not come yet, or is gone."""
        share = min(1.0, max(0.0, (frame - self.starts) / max(1, self.stops - self.starts)))
        x, y = (a + share * (b - a) for a, b in ((self.item.x, self.x), (self.item.y, self.y)))
        return replace(self.item, x=x, y=y, color=self.color if frame >= self.stops else self.item.color)


@dataclass(frozen=True, eq=False)
class MovingScene:
    """frames: (F, H, W, 3) uint8 RGB. actors: in the order in which they are drawn."""

    seed: int
    frames: Pixels
    actors: tuple[Actor, ...]


def render_moving(seed: int, frames: int = 16, height: int = 336, width: int = 336) -> MovingScene:
    """Draw the moving scene of `seed`. Raises ValueError for sides outside 112 to 896 px, fewer than 2 frames or a
    negative seed.
    """
    if min(height, width) < 112 or max(height, width) > 896 or seed < 0 or frames < 2:
        raise ValueError(
            f"moving scene {seed} of {frames} frames of {height}x{width} px: sides must be 112 to 896 px, frames at "
            "least 2 and the seed at least 0"
        )
    rng = np.random.default_rng([seed, frames, height, width])
    ground = draw_ground(rng, height, width)
    draw_clutter(rng, ground)
    objects = place_objects(rng, height, width)
    actors = tuple(_acting(rng, objects, at, frames, height, width) for at in range(len(objects)))
    light = int(rng.integers(2**31))
    edge = math.ceil(max(item.size for item in objects) * (OUTSIDE + 0.5)) + 3
    wide = cv2.copyMakeBorder(ground, edge, edge, edge, edge, cv2.BORDER_REFLECT)
    drawn = np.empty((frames, height, width, 3), np.uint8)
    for frame in range(frames):
        image = wide.copy()
        marks = np.zeros(image.shape[:2], np.uint8)
        for number, actor in enumerate(actors):
            item = actor.at(frame)
            there = replace(item, x=item.x + edge, y=item.y + edge)
            draw_object(np.random.default_rng([seed, number]), image, there, marks, marks, 1)  # as in every frame
        seen = np.ascontiguousarray(image[edge : edge + height, edge : edge + width])
        drawn[frame] = lit(np.random.default_rng(light), seen)
    return MovingScene(seed, drawn, actors)


def _acting(
    rng: np.random.Generator, objects: tuple[SceneObject, ...], at: int, frames: int, height: int, width: int
) -> Actor:
    """What one of the objects does; the first of them always something."""
    item = objects[at]
    does: Does = DOES[int(rng.integers(len(DOES) - (at == 0)))]
    starts = int(rng.integers(0, max(1, frames // 2)))
    stops = min(frames - 1, starts + max(1, int(rng.integers(frames // 4, frames // 2 + 1))))
    actor = Actor(item, does, item.x, item.y, item.color, starts, stops)
    if does == "turns":
        return _turning(rng, actor)
    if does == "moves":
        return _moving(rng, actor, objects, height, width)
    if does == "stays":
        return actor
    away = item.size * OUTSIDE
    gone = [(-away, item.y), (width + away, item.y), (item.x, -away), (item.x, height + away)][int(rng.integers(4))]
    if does == "leaves":
        return replace(actor, x=gone[0], y=gone[1])
    return replace(actor, item=replace(item, x=gone[0], y=gone[1]))


def _moving(rng: np.random.Generator, actor: Actor, objects: tuple[SceneObject, ...], height: int, width: int) -> Actor:
    """The actor with a way to a free place; where none is found it turns."""
    item, r = actor.item, actor.item.size / 2 + 2
    for _ in range(24):
        x, y = rng.uniform(r, width - r), rng.uniform(r, height - r)
        free = all(math.hypot(x - o.x, y - o.y) > 0.56 * (item.size + o.size) + 4 for o in objects if o is not item)
        if free and math.hypot(x - item.x, y - item.y) > item.size:
            return replace(actor, x=x, y=y)
    return _turning(rng, replace(actor, does="turns"))


def _turning(rng: np.random.Generator, actor: Actor) -> Actor:
    """The actor with another colour in the end."""
    return replace(actor, color=str(rng.choice([color for color in COLORS if color != actor.item.color])))
