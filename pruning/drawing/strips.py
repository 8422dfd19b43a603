"""Overlays of clips: every step with what is kept of it, side by side on a sheet, or one after the other in a film.

Knows pixels and rectangles only, as `overlays`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from pruning.drawing.overlays import fit, overlay
from pruning.drawing.paint import Floats, Image
from pruning.tokens import Selection

FILMS = {".mp4": "mp4v"}
"""Endings of films that can be written, with the codec of each."""
SHEET = 1920  # pixels along the longer side of a sheet, about
LEAST = 96  # of a frame on it, so that its patches can be told apart
GAP, LINE = 6, 28  # pixels between frames; height of a caption
LETTERS = 0.6  # size of a caption, as OpenCV counts it
PAPER, INK = (246, 247, 249), (36, 41, 51)
FAR = -9  # where rectangles of other steps lie: outside of the picture


def contact_sheet(
    frames: Sequence[Image],
    times: Sequence[float],
    rects: Floats,
    steps: NDArray[np.int64],
    selection: Selection,
    style: str = "dimmed",
    scores: Floats | None = None,
    depths: Floats | None = None,
    longest: int | None = None,
    taken: Sequence[int] = (),
) -> Image:
    """A sheet of one frame of each step, with its time and how many of its tokens are kept; where `taken` names frames,
    of every frame.

    longest: pixels along the longer side of a frame; None: so many that the sheet has about SHEET. All else as `strip`;
    times: of the frames, seconds.
    """
    shown = on_sheet(len(frames), steps, taken)
    high, wide = frames[0].shape[:2]
    canvases, placed = fitted([frames[at] for at in shown], rects, longest or side(len(shown), (wide, high)))
    drawn = strip(canvases, placed, steps, selection, style, scores, depths, taken)
    counted = steps[selection.indices.cpu().numpy()]
    kept, each = (np.bincount(of[of >= 0], minlength=len(drawn)) for of in (counted, steps))
    of = steps_of(len(shown), steps, taken)
    words = ["not taken" if step < 0 else f"{kept[step]} of {each[step]}" for step in of]
    return sheet(drawn, [f"{times[at]:.1f} s: {told}" for at, told in zip(shown, words, strict=True)])


def steps_of(frames: int, steps: NDArray[np.int64], taken: Sequence[int] = ()) -> list[int]:
    """Which step of time each of so many frames is part of, -1 for one that was left out. taken: of `Encoded`."""
    there = taken or range(frames)
    joined, found = ceil(len(there) / (int(steps.max()) + 1)), [-1] * frames
    for at, frame in enumerate(there):
        found[frame] = at // joined
    return found


def on_sheet(frames: int, steps: NDArray[np.int64], taken: Sequence[int] = ()) -> list[int]:
    """Which of so many frames are on a sheet: the first of each step; where `taken` names some, all."""
    of = steps_of(frames, steps, taken)
    return list(range(frames)) if taken else [of.index(step) for step in range(of[-1] + 1)]


def fitted(frames: Sequence[Image], rects: Floats, longest: int) -> tuple[list[Image], Floats]:
    """Frames of one size with so many pixels along the longer side, and the rectangles (N, 4) on them."""
    canvases = [fit(frame, longest)[0] for frame in frames]
    (height, width), (high, wide) = canvases[0].shape[:2], frames[0].shape[:2]
    return canvases, rects * np.array([width / wide, height / high] * 2, np.float32)


def strip(
    frames: Sequence[Image],
    rects: Floats,
    steps: NDArray[np.int64],
    selection: Selection,
    style: str = "dimmed",
    scores: Floats | None = None,
    depths: Floats | None = None,
    taken: Sequence[int] = (),
) -> list[Image]:
    """`overlay` of every frame with the tokens of its step alone, as large as the frame.

    frames: F of one size, as many of each step, the last step's perhaps fewer. rects: (N, 4) in pixels of a frame.
    steps: (N,) from 0, the step of time of each token, -1 for those that are not the clip's; its frames are the next
    ceil(F / steps). taken: which frames have tokens, where others were left out; (): all. Raises as `overlay`.
    """
    drawn = []
    for step, frame in zip(steps_of(len(frames), steps, taken), frames, strict=True):
        own = np.where((steps == step)[:, None] & (step >= 0), rects, FAR).astype(np.float32)
        drawn.append(overlay(frame, own, selection, style, scores, depths))
    return drawn


def columns(count: int, size: tuple[int, int]) -> int:
    """Of a sheet of so many frames of (width, height), so that it is about as wide as high."""
    width, height = size
    return max(1, min(count, round((count * (height + LINE) / width) ** 0.5)))


def side(count: int, size: tuple[int, int]) -> int:
    """Pixels along the longer side of each frame of (width, height) on a sheet of so many."""
    across = columns(count, size)
    wide = SHEET / max(across, ceil(count / across) * size[1] / size[0])  # of a frame
    return int(max(LEAST, wide * max(1.0, size[1] / size[0])))


def corner(at: int, count: int, size: tuple[int, int]) -> tuple[int, int]:
    """(x, y) pixels on a sheet of `count` frames of (width, height): where frame `at`, from 0, begins."""
    (width, height), across = size, columns(count, size)
    return GAP + at % across * (width + GAP), GAP + at // across * (height + LINE + GAP)


def sheet(frames: Sequence[Image], captions: Sequence[str]) -> Image:
    """Frames of one size in rows, each with its caption below it."""
    high, wide = frames[0].shape[:2]
    across = columns(len(frames), (wide, high))
    rows = ceil(len(frames) / across)
    out = np.full((GAP + rows * (high + LINE + GAP), GAP + across * (wide + GAP), 3), PAPER, np.uint8)
    for at, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
        x, y = corner(at, len(frames), (wide, high))
        out[y : y + high, x : x + wide] = frame
        (length, _), _ = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, LETTERS, 1)
        scale = LETTERS * min(1.0, wide / length)
        cv2.putText(out, caption, (x, y + high + LINE - 9), cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
    return out


def film(frames: Sequence[Image], seconds: float) -> bytes:
    """`write_film` as bytes of an MP4. OpenCV writes to files alone: it lies in a folder that is gone afterwards."""
    with TemporaryDirectory(prefix="idpruner-") as folder:
        path = Path(folder, "film.mp4")
        write_film(path, frames, seconds)
        return path.read_bytes()


def write_film(path: Path, frames: Sequence[Image], seconds: float) -> None:
    """Frames of one size as a film, each shown for so many seconds; the ending of the path says which kind.

    Films have an even number of pixels on either side: a last odd row or column is left out. Raises OSError where the
    file cannot be written.
    """
    height, width = (max(2, side // 2 * 2) for side in frames[0].shape[:2])
    code = cv2.VideoWriter.fourcc(*FILMS[path.suffix.lower()])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 1 / seconds, (width, height))
    if not writer.isOpened():
        raise OSError(f"{path} cannot be written: check that there is room, and that the folder may be written to")
    for frame in frames:
        fitted = frame[:height, :width] if min(frame.shape[:2]) > 1 else cv2.resize(frame, (width, height))
        writer.write(cv2.cvtColor(np.ascontiguousarray(fitted), cv2.COLOR_RGB2BGR))
    writer.release()
