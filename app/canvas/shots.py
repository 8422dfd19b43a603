"""What of a sample is drawn: its images, and of clips every step of time, each as a picture of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pruning.grids import Grid
from pruning.video import Clip


@dataclass(frozen=True)
class Shot:
    """A picture as it is drawn.

    pixels: (H, W, 3) uint8. image: which of the sample's images and clips it shows. time: of a step of a clip, seconds
    from the clip's start; None for an image. frames: that share the step's tokens, of which this is the first.
    step: of time whose tokens lie on it; None of frames that were left out, and of those that share the tokens of
    another shot, at place `joins`.
    """

    pixels: NDArray[np.uint8]
    image: int
    time: float | None = None
    frames: int = 1
    step: int | None = 0
    joins: int | None = None


def shots(
    media: Sequence[Image.Image | Clip | NDArray[np.uint8]],
    grids: Sequence[Grid],
    taken: Sequence[Sequence[int]] = (),
) -> tuple[Shot, ...]:
    """In the order of the sample. grids: of its tokens, which say how many steps each clip has. taken: of `Encoded`;
    where it names frames, all that the clip has are shots.
    """
    found = list[Shot]()
    for image, medium in enumerate(media):
        if not isinstance(medium, Clip):
            found.append(Shot(np.asarray(medium), image))
            continue
        steps = next(grid.t for grid in grids if grid.image == image)
        if taken:
            found += _frame_by_frame(medium, image, steps, taken[image], len(found))
            continue
        joined = -(-len(medium.frames) // steps)
        for step, (frame, at) in enumerate(zip(medium.frames[::joined], medium.times[::joined], strict=True)):
            found.append(Shot(np.asarray(frame), image, at, joined, step))
    return tuple(found)


def _frame_by_frame(clip: Clip, image: int, steps: int, taken: Sequence[int], start: int) -> list[Shot]:
    """Shots of every frame, those of a step's tokens on the first that was taken for it. start: place of the first."""
    joined, found = -(-len(taken) // steps), list[Shot]()
    order = {frame: at for at, frame in enumerate(taken)}
    for frame, (picture, time) in enumerate(zip(clip.frames, clip.times, strict=True)):
        at = order.get(frame)
        first = None if at is None else at - at % joined
        step = None if at is None or at != first else at // joined
        joins = None if first is None or at == first else start + taken[first]
        found.append(Shot(np.asarray(picture), image, time, 1, step, joins))
    return found


def on_shots(grids: Sequence[Grid], shown: Sequence[Shot]) -> tuple[Grid, ...]:
    """The grids of every step by itself; `image` of each is the place of its shot."""
    places = {(shot.image, shot.step): place for place, shot in enumerate(shown) if shot.step is not None}
    return tuple(
        replace(grid, t=1, start=grid.start + step * grid.gh * grid.gw, image=places[grid.image, step])
        for grid in grids
        for step in range(grid.t)
    )
