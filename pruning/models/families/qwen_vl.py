"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL: M-RoPE, 2 × 2 patches to a token, a packed tower without CLS.

The tower of 2.5 attends in windows, but for a few layers, and stores patches window by window. Qwen3-VL gives further
rows from earlier layers (DeepStack), which enter the language model in step with the visual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from pruning.grids import Grid
from pruning.models.families.base import Family, Pixels
from pruning.models.families.geometry import check_aspect
from pruning.models.values import Rows
from pruning.video import Clip

STEP_TOKENS = 768  # of one step of a clip, as the video processors of these families have it
CLIP_TOKENS = 4096  # of a clip: tokens are compared each with each


class Packed(Family):
    """Images are stretched to multiples of a token's side: every token is a cell of a regular grid over the image.

    Fits other families that tell the size of an image as `image_grid_thw`, too; loading proves it.
    """

    shared: ClassVar[bool] = False  # whether a checkpoint's limit of pixels is for a clip, not for a frame

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

    def film(self, clips: Sequence[Clip], max_tokens: float, among: Sequence[int] = ()) -> Pixels:
        """Every two frames become one step: the image processor makes patches of each, which lie behind each other.

        An odd last frame is repeated. A step has at most what the checkpoint names, else STEP_TOKENS, and no more than
        a picture; a clip at most CLIP_TOKENS.
        """
        processor, values, grids, texts = self.processing.image_processor, list[Tensor](), list[Tensor](), list[str]()
        token = self.processing.tokenizer.convert_ids_to_tokens(self.config.video_token_id)
        joined = processor.temporal_patch_size
        for clip, count in zip(clips, among or [len(clip.frames) for clip in clips], strict=True):
            check_aspect(*clip.size)
            frames = [*clip.frames, *clip.frames[-1:] * (-len(clip.frames) % joined)]
            # A patch of one frame: by itself the processor repeats a picture for the other frames of a step.
            limits = self._limits(-(-count // joined), max_tokens)
            made = processor(images=frames, return_tensors="pt", temporal_patch_size=1, **limits)
            _, gh, gw = made["image_grid_thw"][0].tolist()
            shape = (len(frames) // joined, joined, gh * gw, 3, -1)
            patches = made["pixel_values"].reshape(shape)  # (steps, frame, patch, channel, pixels)
            values.append(patches.permute(0, 2, 3, 1, 4).reshape(shape[0] * gh * gw, -1))
            grids.append(torch.tensor([[shape[0], gh, gw]]))
            texts.append(self.written(clip, shape[0], gh * gw // self._vision.spatial_merge_size**2, token))
        grid = torch.cat(grids)
        seconds = torch.tensor([joined * clip.seconds_per_frame for clip in clips], dtype=torch.float64)
        inputs = {"pixel_values": torch.cat(values), "image_grid_thw": grid}
        side = {"video_grid_thw": grid, "second_per_grid_ts": seconds}
        counts = tuple(text.count(token) for text in texts)
        return Pixels(inputs, tuple(clip.size for clip in clips), tuple(texts), counts, side, "video")

    def _limits(self, steps: int, max_tokens: float) -> dict[str, Any]:
        """Options of the image processor for the frames of a clip, at most `max_tokens` to a step."""
        processor, named = self.processing.image_processor, self.processing.clips.size
        cell = (processor.patch_size * self._vision.spatial_merge_size) ** 2
        shares = steps * processor.temporal_patch_size if self.shared else 1
        usual = min(STEP_TOKENS, processor.size["longest_edge"] / cell)
        told = named["longest_edge"] / shares / cell if "longest_edge" in named else usual
        longest = max(1, int(min(max_tokens, told, CLIP_TOKENS / steps) * cell))
        shortest = named.get("shortest_edge", processor.size["shortest_edge"] * shares) // shares
        return {"size": {"shortest_edge": min(shortest, longest), "longest_edge": longest}}

    def film_layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        return self.layout(pixels)

    def features(self, pixels: Pixels) -> Rows:
        rows = super().features(pixels)  # one tower for both: a picture is a clip of one step
        video = torch.ones(len(rows.features), dtype=torch.bool) if pixels.kind == "video" else None
        return replace(rows, video=video)

    def written(self, clip: Clip, steps: int, tokens: int, token: str) -> str:
        """What stands for a clip of so many steps, and tokens in each, in the prompt."""
        return token * (steps * tokens)

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
    packed: ClassVar = True
    films: ClassVar = True


class Qwen3VL(Packed):
    """No windows; DeepStack. Every step of a clip has marks of its own, and the time before them."""

    model_types: ClassVar = ("qwen3_vl", "qwen3_vl_moe")
    title: ClassVar = "Qwen3-VL"
    packed: ClassVar = True
    films: ClassVar = True
    shared: ClassVar = True

    def written(self, clip: Clip, steps: int, tokens: int, token: str) -> str:
        joined = self.processing.image_processor.temporal_patch_size
        name = self.processing.tokenizer.convert_ids_to_tokens
        start, end = name(self.config.vision_start_token_id), name(self.config.vision_end_token_id)
        times = [*clip.times, *clip.times[-1:] * (steps * joined - len(clip.times))]
        middles = [(times[i] + times[i + joined - 1]) / 2 for i in range(0, len(times), joined)]
        return "".join(f"<{middle:.1f} seconds>{start}{token * tokens}{end}" for middle in middles)
