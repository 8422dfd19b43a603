"""InternVL3: an image is cut into square tiles, its thumbnail follows them; 2 × 2 patches to a token; a tower with CLS.

The image is stretched to the arrangement of tiles that comes closest to its shape, so tiles divide it evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import isqrt
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from pruning.grids import Grid
from pruning.models.families.base import Family, Pixels
from pruning.models.families.frames import frames_as_pixels, square
from pruning.models.families.geometry import arrangement, tiled_grids
from pruning.video import Clip


class InternVL(Family):
    """The projector is called with the patches of a token side by side in the channels, (S, p, merge² · C)."""

    model_types: ClassVar = ("internvl",)
    title: ClassVar = "InternVL3"
    films: ClassVar = True

    def options(self, images: Sequence[Image.Image], max_tokens: float) -> dict[str, Any]:
        processor = self.processing.image_processor
        tiles = max(1, int(max_tokens // self._per_tile) - 1)  # the thumbnail takes one tile's tokens
        most = min(processor.max_patches, tiles)
        return {"crop_to_patches": True, "max_patches": most, "min_patches": min(processor.min_patches, most)}

    @property
    def scales(self) -> bool:
        return True

    def count(self, size: tuple[int, int], images: int, max_tokens: float) -> int:
        options = self.options((), max_tokens)
        tiles: int = self.processing.image_processor.get_number_of_image_patches(size[1], size[0], options)
        return tiles * self._per_tile

    def film(self, clips: Sequence[Clip], max_tokens: float, among: Sequence[int] = ()) -> Pixels:
        """Every frame is a tile of its own, stretched to the square, without a thumbnail; the model takes it as a
        picture.
        """
        processor, written = self.processing.processor, list[str]()
        size = square(self.processing.clips.size, self.processing.image_processor.size)
        pixels = torch.cat([frames_as_pixels(self.processing, clip.frames, [size]) for clip in clips])
        frame = f"{processor.start_image_token}{processor.image_token * self._per_tile}{processor.end_image_token}"
        for clip in clips:
            written.append("\n".join(f"Frame{number}: {frame}" for number in range(1, len(clip.frames) + 1)))
        steps = tuple(len(clip.frames) for clip in clips)
        return Pixels(
            {"pixel_values": pixels},
            tuple(clip.size for clip in clips),
            tuple(written),
            tuple(count * self._per_tile for count in steps),
            steps=steps,
            box=self.seen(pixels.shape[-1]),
        )

    def layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        grids, seen = list[Grid](), self.seen(pixels.inputs["pixel_values"].shape[-1])
        for image, (count, size) in enumerate(zip(pixels.counts, pixels.sizes, strict=True)):
            tiles = max(1, count // self._per_tile - 1)
            start = grids[-1].stop if grids else 0
            grids += tiled_grids(image, arrangement(tiles, *size), isqrt(self._per_tile), start, seen)
        return tuple(grids), None

    @property
    def _per_tile(self) -> int:
        return int(self.processing.processor.image_seq_length)

    @cached_property
    def merge(self) -> int:
        return round(1 / self.config.downsample_ratio)

    def shrink_input(self, given: Tensor) -> Tensor:
        sequences, tokens, _ = given.shape
        return given.reshape(sequences, tokens, self.merge**2, -1).mean(2)

    def widen(self, offset: Tensor) -> Tensor:
        return offset.repeat(self.merge**2)
