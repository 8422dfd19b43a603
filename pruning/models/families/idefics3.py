"""Idefics3 and SmolVLM: an image is cut into square tiles, the whole of it follows them; the connector merges patches.

The image is stretched to multiples of a tile's side, so tiles divide it evenly. Marks in the prompt tell where each
tile lies; they are text, never pruned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from math import isqrt
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from pruning.grids import Grid
from pruning.models.families.base import Family, Pixels
from pruning.models.families.frames import frames_as_pixels, number_words
from pruning.models.families.geometry import tiled_grids
from pruning.video import Clip

MOST = 999  # frames whose number can be written in words
TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


class Idefics3(Family):
    model_types: ClassVar = ("idefics3",)
    title: ClassVar = "Idefics3"

    def options(self, images: Sequence[Image.Image], max_tokens: float) -> dict[str, Any]:
        """The processor scales the longer side to so many tiles; a square image has the most of them."""
        processor = self.processing.image_processor
        tile = processor.max_image_size["longest_edge"]
        tiles = max(1, int(max_tokens // self._per_tile) - 1)  # one more tile's tokens are the whole
        side = isqrt(tiles)
        return {"size": {"longest_edge": min(processor.size["longest_edge"], side * tile)}}

    @property
    def scales(self) -> bool:
        return True

    def count(self, size: tuple[int, int], images: int, max_tokens: float) -> int:
        options = self.options((), max_tokens)
        tiles, _, _ = self.processing.image_processor.get_number_of_image_patches(size[1], size[0], options)
        return max(1, int(tiles)) * self._per_tile

    def layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        grids, seen = list[Grid](), self.seen(pixels.inputs["pixel_values"].shape[-1])
        for image, text in enumerate(pixels.texts):
            last = TILE.findall(text)[-1:] or [("1", "1")]
            rows, columns = (int(number) for number in last[0])
            start = grids[-1].stop if grids else 0
            grids += tiled_grids(image, (rows, columns), isqrt(self._per_tile), start, seen)
        return tuple(grids), None

    @property
    def _per_tile(self) -> int:
        return int(self.processing.processor.image_seq_len)

    @cached_property
    def merge(self) -> int:
        return int(self.config.scale_factor)


class SmolVLM(Idefics3):
    """Frames of clips are pictures that are not cut, each behind its time in words."""

    model_types: ClassVar = ("smolvlm",)
    title: ClassVar = "SmolVLM, SmolVLM2"
    films: ClassVar = True

    def film(self, clips: Sequence[Clip], max_tokens: float, among: Sequence[int] = ()) -> Pixels:
        """Frames are scaled to the longer side that the checkpoint names, then stretched to a tile."""
        tile = self.processing.image_processor.max_image_size["longest_edge"]
        longest = self.processing.clips.size.get("longest_edge", self.processing.image_processor.size["longest_edge"])
        frames = list[Tensor]()
        for clip in clips:
            if len(clip.frames) > MOST:
                raise ValueError(f"the clip has {len(clip.frames)} frames, and {self.title} takes at most {MOST}")
            sizes = [scaled(*clip.size, longest), (tile, tile)]
            frames.append(frames_as_pixels(self.processing, clip.frames, sizes))
        pixels = torch.cat(frames)[None]  # (1, F, 3, h, w): the frames of a sample
        steps = tuple(len(clip.frames) for clip in clips)
        return Pixels(
            {"pixel_values": pixels, "pixel_attention_mask": torch.ones(pixels[:, :, 0].shape, dtype=torch.long)},
            tuple(clip.size for clip in clips),
            tuple(self._written(clip) for clip in clips),
            tuple(count * self._per_tile for count in steps),
            steps=steps,
            box=self.seen(tile),
        )

    def _written(self, clip: Clip) -> str:
        """What the library's processor writes for a clip: number of frames, duration, and the time of each frame."""
        processor, tokenizer = self.processing.processor, self.processing.tokenizer
        around = getattr(tokenizer, "fake_image_token", "<fake_token_around_image>")
        whole = getattr(tokenizer, "global_image_token", "<global-img>")
        image = around + whole + processor.image_token * self._per_tile + around
        text = (
            f"You are provided the following series of {number_words(len(clip.frames))} frames from a "
            f"{timedelta(seconds=int(clip.duration))} [H:MM:SS] video.\n"
        )
        for at in clip.times:
            text += f"\nFrame from {int(at // 60):02d}:{int(at % 60):02d}:{image}"
        return text + "\n\n"


def scaled(width: int, height: int, longest: int) -> tuple[int, int]:
    """(height, width) of a frame whose longer side becomes `longest`, the shorter one an even number.

    >>> scaled(640, 360, 512), scaled(90, 160, 100)
    ((288, 512), (100, 56))
    """
    ratio = width / height
    if width >= height:
        short = int(longest / ratio)
        return max(1, short + short % 2), longest
    short = int(longest * ratio)
    return longest, max(1, short + short % 2)
