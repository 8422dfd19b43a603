"""Frames of clips as squares, for towers that take them one by one: the image processor's own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruning.models.checkpoint.processing import Processing

UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def frames_as_pixels(
    processing: Processing,
    frames: Sequence[Image.Image],
    sizes: Sequence[tuple[int, int]],
    crop: tuple[int, int] | None = None,
) -> Tensor:
    """RGB frames -> (F, 3, h, w) float32: resized to each (height, width) in turn, cropped in the middle, normalised.

    Mean and standard deviation are those that the checkpoint names for clips, else those for pictures.
    """
    from transformers.image_utils import SizeDict

    processor, clips = processing.image_processor, processing.clips
    resample = getattr(processor, "resample", None)
    made = []
    for frame in frames:
        pixels = np.moveaxis(np.asarray(frame), -1, 0)
        for height, width in sizes:
            pixels = processor.resize(pixels, size=SizeDict(height=height, width=width), resample=resample)
        if crop is not None:
            pixels = processor.center_crop(pixels, SizeDict(height=crop[0], width=crop[1]))
        pixels = processor.rescale(pixels.astype(np.float32), 1 / 255)
        made.append(processor.normalize(pixels, clips.mean or processor.image_mean, clips.std or processor.image_std))
    return torch.from_numpy(np.stack(made)).float()


def square(size: Mapping[str, int], fallback: object) -> tuple[int, int]:
    """(height, width) that a checkpoint names for frames, else for pictures."""
    if "height" in size and "width" in size:
        return size["height"], size["width"]
    return int(getattr(fallback, "height")), int(getattr(fallback, "width"))  # noqa: B009  (a library's own class)


def number_words(number: int) -> str:
    """A whole number up to 999 as SmolVLM2's prompts write it.

    >>> number_words(8), number_words(42), number_words(120)
    ('eight', 'forty-two', 'one hundred and twenty')
    """
    if number >= 100:
        rest = number % 100
        return f"{UNITS[number // 100]} hundred" + (f" and {number_words(rest)}" if rest else "")
    if number < 20:
        return UNITS[number]
    return TENS[number // 10] + (f"-{UNITS[number % 10]}" if number % 10 else "")
