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
    """

    pixels: NDArray[np.uint8]
    image: int
    time: float | None = None
    frames: int = 1


def shots(media: Sequence[Image.Image | Clip | NDArray[np.uint8]], grids: Sequence[Grid]) -> tuple[Shot, ...]:
    """In the order of the sample. grids: of its tokens, which say how many steps each clip has."""
    found = list[Shot]()
    for image, medium in enumerate(media):
        if not isinstance(medium, Clip):
            found.append(Shot(np.asarray(medium), image))
            continue
        steps = next(grid.t for grid in grids if grid.image == image)
        joined = -(-len(medium.frames) // steps)
        for frame, at in zip(medium.frames[::joined], medium.times[::joined], strict=True):
            found.append(Shot(np.asarray(frame), image, at, joined))
    return tuple(found)


def on_shots(grids: Sequence[Grid], shown: Sequence[Shot]) -> tuple[Grid, ...]:
    """The grids of every step by itself; `image` of each is the place of its shot."""
    first = {shot.image: place for place, shot in reversed(list(enumerate(shown)))}
    return tuple(
        replace(grid, t=1, start=grid.start + step * grid.gh * grid.gw, image=first[grid.image] + step)
        for grid in grids
        for step in range(grid.t)
    )
