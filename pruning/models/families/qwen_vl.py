"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL: M-RoPE, 2 × 2 patches to a token, a packed tower without CLS.

The tower of 2.5 attends in windows, but for a few layers, and stores patches window by window. Qwen3-VL gives further
rows from earlier layers (DeepStack), which enter the language model in step with the visual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from pruning.grids import Grid
from pruning.models.families.base import Family, Pixels
from pruning.models.values import Rows


class Packed(Family):
    """Images are stretched to multiples of a token's side: every token is a cell of a regular grid over the image.

    Fits other families that tell the size of an image as `image_grid_thw`, too; loading proves it.
    """

    @property
    def _vision(self) -> Any:
        return self.config.vision_config

    def options(self, images: Sequence[Image.Image], max_tokens: float) -> dict[str, Any]:
        processor = self.processing.image_processor
        cell = (processor.patch_size * self._vision.spatial_merge_size) ** 2
        longest = min(processor.size["longest_edge"], max(1, int(max_tokens * cell)))
        return {"size": {"shortest_edge": min(processor.size["shortest_edge"], longest), "longest_edge": longest}}

    @property
    def scales(self) -> bool:
        return hasattr(self.processing.image_processor, "get_number_of_image_patches")

    def count(self, size: tuple[int, int], images: int, max_tokens: float) -> int:
        limits = self.options((), max_tokens)["size"]
        # Some processors take the limits by their old names alone.
        named = {"size": limits, "min_pixels": limits["shortest_edge"], "max_pixels": limits["longest_edge"]}
        patches: int = self.processing.image_processor.get_number_of_image_patches(size[1], size[0], named)
        return patches // self._vision.spatial_merge_size**2

    def patches(self, pixels: Pixels) -> int:
        return int(pixels.inputs["pixel_values"].shape[0])

    def layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        merge, grids = self._vision.spatial_merge_size, list[Grid]()
        for image, (t, h, w) in enumerate(pixels.inputs["image_grid_thw"].tolist()):
            grids.append(Grid(t, h // merge, w // merge, grids[-1].stop if grids else 0, image))
        return tuple(grids), None

    @cached_property
    def projector(self) -> Any:
        return getattr(self.tower, "merger", None)

    def layer(self, number: int) -> int:
        if number >= 0:
            return number
        whole = set(getattr(self._vision, "fullatt_block_indexes", None) or [])
        windowed_first = sorted(range(len(self.attentions)), key=lambda index: (index in whole, index))
        return windowed_first[number]

    def shrink(self, patches: Tensor) -> Tensor:
        sequences, _, width = patches.shape
        return patches.reshape(sequences, -1, self._vision.spatial_merge_size**2, width).mean(2)

    def arrange(self, tokens: Tensor, pixels: Pixels) -> Tensor:
        rows = tokens.flatten(0, 1)
        if not hasattr(self._vision, "window_size"):
            return rows
        from transformers.vision_utils import get_vision_window_index

        vision = self._vision
        grid = pixels.inputs["image_grid_thw"]
        order, _ = get_vision_window_index(grid, vision.spatial_merge_size, vision.window_size, vision.patch_size)
        return rows[torch.argsort(order).to(rows.device)]


class QwenVL(Packed):
    model_types: ClassVar = ("qwen2_vl", "qwen2_5_vl")
    title: ClassVar = "Qwen2-VL, Qwen2.5-VL"


class Qwen3VL(Packed):
    """No windows; DeepStack."""

    model_types: ClassVar = ("qwen3_vl", "qwen3_vl_moe")
    title: ClassVar = "Qwen3-VL"

    def encoder_output(self, rows: Rows) -> Any:
        output = super().encoder_output(rows)
        output.deepstack_features = [[level.to(self.model.device, self.model.dtype)] for level in rows.deepstack]
        return output
