"""Qwen2-VL and Qwen2.5-VL: M-RoPE positions, 2 × 2 patches to a token, a tower without CLS, in 2.5 mostly windowed."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruning.models.attention import capture_inputs, received
from pruning.models.family import Family, Pixels
from pruning.models.geometry import check_aspect, grid_rects
from pruning.tokens import Grid


class QwenVL(Family):
    """Images are stretched to multiples of 28 pixels, so every token is a cell of a regular grid over the image."""

    model_types: ClassVar = ("qwen2_vl", "qwen2_5_vl")

    @property
    def _vision(self) -> Any:
        return self.model.config.vision_config

    @property
    def vision_layers(self) -> int:
        return int(self._vision.depth)

    def preprocess(self, images: Sequence[Image.Image], max_tokens: int) -> Pixels:
        for image in images:
            check_aspect(*image.size)
        processor, merge = self.image_processor, self._vision.spatial_merge_size
        cell = (processor.patch_size * merge) ** 2
        longest = min(processor.size["longest_edge"], max_tokens * cell)
        size = {"shortest_edge": min(processor.size["shortest_edge"], longest), "longest_edge": longest}
        batch = processor(images=list(images), size=size, return_tensors="pt")
        grids: list[Grid] = []
        for t, h, w in batch["image_grid_thw"].tolist():
            grids.append(Grid(t, h // merge, w // merge, grids[-1].stop if grids else 0))
        inputs = {name: batch[name].to(self.model.device) for name in ("pixel_values", "image_grid_thw")}
        return Pixels(inputs, tuple(grids))

    def encode(self, pixels: Pixels, layers: Iterable[int]) -> tuple[Tensor, dict[int, Tensor]]:
        blocks = {layer: self._block(layer) for layer in layers}
        with torch.no_grad(), capture_inputs(self.model.model.visual.blocks, set(blocks.values())) as seen:
            output = self.model.model.get_image_features(**pixels.inputs, return_dict=True).pooler_output
        grid = pixels.inputs["image_grid_thw"]
        tower = self.model.model.visual.blocks
        maps = {layer: self._to_tokens(received(tower[b].attn, *seen[b]), grid) for layer, b in blocks.items()}
        return torch.cat(list(output)), maps

    def _block(self, layer: int) -> int:
        """-1 is the last block that attends over the whole image, any other number the block of that index."""
        whole = getattr(self._vision, "fullatt_block_indexes", None)
        if layer == -1 and whole:
            return int(max(whole))
        return layer % self.vision_layers

    def _to_tokens(self, scores: Tensor, grid_thw: Tensor) -> Tensor:
        """(4N,) per patch in the tower's order -> (N,) mean over the patches of a token, raster order."""
        pooled = scores.view(-1, self._vision.spatial_merge_size**2).mean(1)
        if not hasattr(self._vision, "window_size"):
            return pooled
        from transformers.vision_utils import get_vision_window_index

        order, _ = get_vision_window_index(
            grid_thw, self._vision.spatial_merge_size, self._vision.window_size, self._vision.patch_size
        )
        return pooled[torch.argsort(order).to(pooled.device)]

    def encoder_output(self, rows: Tensor) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        return BaseModelOutputWithPooling(pooler_output=[rows])

    def positions(self, input_ids: Tensor, grids: tuple[Grid, ...]) -> Tensor:
        merge = self._vision.spatial_merge_size
        positions, _ = self.model.model.get_rope_index(
            input_ids,
            mm_token_type_ids=(input_ids == self.model.config.image_token_id).int(),
            image_grid_thw=torch.tensor([(g.t, g.gh * merge, g.gw * merge) for g in grids]),
        )
        return positions

    def rects(self, grids: tuple[Grid, ...], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
        return np.concatenate([grid_rects(g.gh, g.gw, *size) for g, size in zip(grids, sizes, strict=True)])
