"""What a command is about, a picture or a clip: opened for a model, and drawn with what is kept of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pruning.cli.files import PICTURES, write_picture
from pruning.drawing import overlays as draw
from pruning.drawing import strips
from pruning.images import open_image
from pruning.models import VLM, Encoded
from pruning.tokens import Selection
from pruning.video import Clip, kind_of, open_media

Medium = Image.Image | Clip
OVERLAYS = (*PICTURES, *strips.FILMS)
LONGEST = 1024  # pixels of a picture as it is drawn


def opened(source: str, vlm: VLM, fps: float | None = None, most: int | None = None) -> Medium:
    """The picture or clip in a file, for a model. fps, most: frames of each second, and in all; None: as its checkpoint
    says. Of what moves in a picture's format, a model that takes no clips is given the first frame.

    Raises ValueError for a film and a model that takes none, for a number that is none, and as `open_media`.
    """
    sampling = vlm.sampling.but(fps, most)
    kind = kind_of(source)
    if kind is not None and vlm.no_clips:
        if kind == "film":
            raise ValueError(vlm.no_clips)
        return open_image(source)
    return open_media(source, sampling)


def still(source: str, why: str) -> Image.Image:
    """The picture in a file. Raises ValueError for a film, saying why, and as `open_image`."""
    if kind_of(source) == "film":
        raise ValueError(f"{why}: name a picture")
    return open_image(source)


def write_overlay(
    path: Path,
    medium: Medium,
    encoded: Encoded,
    selection: Selection,
    style: str = "dimmed",
    scores: np.ndarray | None = None,
    depths: np.ndarray | None = None,
) -> None:
    """Draw what is kept: on a picture; of a clip on all its frames, as a sheet, or as a film where the path ends so.

    scores, depths: as `overlay` takes them. Raises ValueError for a film of a picture, and as `overlay`.
    """
    moves = path.suffix.lower() in strips.FILMS
    if isinstance(medium, Image.Image) and moves:
        raise ValueError(f"{path} is a film, and a picture does not move: end it in {' or '.join(PICTURES)}")
    frames = [np.asarray(frame) for frame in (medium.frames if isinstance(medium, Clip) else (medium,))]
    if not isinstance(medium, Clip):
        (canvas,), rects = strips.fitted(frames, encoded.rects, draw.roomy(frames[0], LONGEST))
        write_picture(path, draw.overlay(canvas, rects, selection, style, scores, depths))
        return
    steps, taken = encoded.tokens.pictures.numpy(), encoded.taken[0] if encoded.taken else ()
    if not moves:
        write_picture(
            path,
            strips.contact_sheet(
                frames, medium.times, encoded.rects, steps, selection, style, scores, depths, taken=taken
            ),
        )
        return
    canvases, rects = strips.fitted(frames, encoded.rects, LONGEST)
    drawn = strips.strip(canvases, rects, steps, selection, style, scores, depths, taken)
    strips.write_film(path, drawn, medium.seconds_per_frame)
