"""Clips that tests write themselves: OpenCV's films, Pillow's animations, and bytes of both changed by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pruning.video import Clip

CODES = {".mp4": "mp4v", ".mov": "mp4v", ".webm": "VP80", ".avi": "MJPG", ".mkv": "FFV1"}


def shade(number: int) -> int:
    """The grey of a clip's frame."""
    return 20 + number * 7 % 200


def film(path: Path, frames: int = 30, fps: float = 10, size: tuple[int, int] = (64, 48), code: str = "") -> Path:
    """Frames of one grey each, lighter from one to the next, with a white corner at the left top."""
    fourcc = cv2.VideoWriter.fourcc(*(code or CODES[path.suffix]))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, fps, size)
    assert writer.isOpened()
    for number in range(frames):
        picture = np.full((size[1], size[0], 3), shade(number), np.uint8)
        picture[: size[1] // 3, : size[0] // 3] = 255
        writer.write(picture)
    writer.release()
    return path


def animation(path: Path, durations: Sequence[int], size: tuple[int, int] = (40, 30)) -> Path:
    """Frames of one grey each, shown for so many milliseconds."""
    frames = [Image.new("RGB", size, (shade(i),) * 3) for i in range(len(durations))]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=list(durations), loop=0)
    return path


def patched(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """The file with its bytes changed."""
    path.write_bytes(change(path.read_bytes()))
    return path


def moving(frames: int, size: tuple[int, int] = (112, 84), step: float = 0.5, seed: int = 0) -> Clip:
    """A clip of random pixels that were never in a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)
    pictures = tuple(Image.fromarray(each) for each in pixels)
    return Clip(pictures, tuple(step * i for i in range(frames)), step * frames, frames)
