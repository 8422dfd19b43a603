"""Idefics3 and SmolVLM: an image is cut into square tiles, the whole of it follows them; the connector merges patches.

The image is stretched to multiples of a tile's side, so tiles divide it evenly. Marks in the prompt tell where each
tile lies; they are text, never pruned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from math import isqrt
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor

from pruning.grids import Grid
from pruning.models.families.base import Family, Pixels
from pruning.models.families.geometry import tiled_grids

TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


class Idefics3(Family):
    model_types: ClassVar = ("idefics3", "smolvlm")
    title: ClassVar = "Idefics3, SmolVLM"

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
