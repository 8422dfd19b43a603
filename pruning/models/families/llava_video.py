"""LLaVA-NeXT-Video and LLaVA-OneVision: pictures as LLaVA-NeXT has them, frames of clips whole, pooled to a quarter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from pruning.grids import Grid
from pruning.models.families.base import Pixels, told
from pruning.models.families.frames import frames_as_pixels, square
from pruning.models.families.geometry import Box, centre_crop_box, part_of, shortest_edge
from pruning.models.families.llava_next import LlavaNext, Size
from pruning.models.values import ModelError, Rows
from pruning.video import Clip


class Filmed(LlavaNext):
    """Frames of clips are not cut; the patches of a frame are pooled to half as many rows and columns."""

    films: ClassVar = True

    def film(self, clips: Sequence[Clip], max_tokens: float, among: Sequence[int] = ()) -> Pixels:
        pixels, box = self._frames(clips)
        token = self.processing.tokenizer.convert_ids_to_tokens(self.config.video_token_id)
        steps = tuple(len(clip.frames) for clip in clips)
        counts = tuple(count * self._pooled_side**2 + self._ends for count in steps)
        texts = tuple(token * count for count in counts)
        inputs = {"pixel_values_videos": pixels}
        return Pixels(inputs, tuple(clip.size for clip in clips), texts, counts, {}, "video", steps, box)

    _ends: ClassVar[int] = 0  # newline rows behind a clip

    def _frames(self, clips: Sequence[Clip]) -> tuple[Tensor, Box]:
        """(F, 3, h, w) of the frames of all clips, and what of a frame its patches cover."""
        raise NotImplementedError

    def _pool(self, patches: Tensor) -> Tensor:
        """(F, C, rows, columns) -> the same with as many rows and columns as the tokens of a frame have."""
        raise NotImplementedError

    @property
    def _pooled_side(self) -> int:
        side = self._side // self._patch
        return int(self._pool(torch.zeros(1, 1, side, side)).shape[-1])

    def patches(self, pixels: Pixels) -> int:
        if not pixels.steps:
            return super().patches(pixels)
        return sum(pixels.steps) * (self._side // self._patch) ** 2

    def film_layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        side, grids, places, row = self._pooled_side, list[Grid](), list[Tensor](), 0
        for clip, steps in enumerate(pixels.steps):
            grids.append(Grid(steps, side, side, grids[-1].stop if grids else 0, clip, box=pixels.box))
            places.append(row + torch.arange(grids[-1].count))
            row += grids[-1].count + self._ends
        return tuple(grids), torch.cat(places) if self._ends else None

    def features(self, pixels: Pixels) -> Rows:
        """The frames of all clips go through the tower as those of one."""
        if not pixels.steps:
            return super().features(pixels)
        given = pixels.inputs["pixel_values_videos"][None].to(self.model.device, self.model.dtype)
        output = self.model.model.get_video_features(pixel_values_videos=given, return_dict=True)
        rows = told(output, "video")
        own = rows.features[: sum(pixels.steps) * self._pooled_side**2]
        features = self._ended(own.unflatten(0, (sum(pixels.steps), -1)), pixels, rows.features[len(own) :])
        return replace(rows, features=features, video=torch.ones(len(features), dtype=torch.bool))

    def _ended(self, frames: Tensor, pixels: Pixels, newline: Tensor) -> Tensor:
        """(F, p, C) -> all rows (R, C): those of each clip, and newline (0 or 1, C) behind them."""
        return torch.cat([row for clip in frames.split(pixels.steps) for row in (clip.flatten(0, 1), newline)])

    def arrange(self, tokens: Tensor, pixels: Pixels) -> Tensor:
        """Of clips also (S, p, C) with a place for each token of a pooled frame, which then stays as it is."""
        if not pixels.steps:
            return super().arrange(tokens, pixels)
        frames, count, width = tokens.shape
        if count != self._pooled_side**2:
            side = self._side // self._patch
            pooled = self._pool(tokens.transpose(1, 2).reshape(frames, width, side, side))
            tokens = pooled.flatten(2).transpose(1, 2)
        return self._ended(tokens, pixels, tokens.new_zeros(self._ends, width))


class LlavaNextVideo(Filmed):
    """The tower's patches are pooled before the projector, as the configuration says; frames are cropped."""

    model_types: ClassVar = ("llava_next_video",)
    title: ClassVar = "LLaVA-NeXT-Video"

    def _frames(self, clips: Sequence[Clip]) -> tuple[Tensor, Box]:
        if len({clip.size for clip in clips}) > 1:
            raise ValueError("the clips of a question must have frames of one size: ask about them one by one")
        settings, processor = self.processing.clips, self.processing.image_processor
        crop = square(settings.crop, processor.crop_size)
        width, height = shortest_edge(*clips[0].size, settings.size.get("shortest_edge", min(crop)))
        frames = [frame for clip in clips for frame in clip.frames]
        pixels = frames_as_pixels(self.processing, frames, [(height, width)], crop)
        box = part_of(centre_crop_box((width, height), (crop[1], crop[0])), self.seen(crop[0]))
        return pixels, box

    def _pool(self, patches: Tensor) -> Tensor:
        stride = self.config.spatial_pool_stride
        pool = max_pool2d if self.config.spatial_pool_mode == "max" else avg_pool2d
        return pool(patches, stride, stride)

    def check_clips(self) -> None:
        if self.config.spatial_pool_mode == "conv":
            raise ModelError("clips are pooled by weights of the checkpoint: choose one that pools by the mean")
        super().check_clips()


class LlavaOneVision(Filmed):
    """Several images of one question are padded to squares and not cut; many tiles are scaled down to fewer tokens.

    Rows of clips are pooled by the library, bilinear; a newline row stands behind each clip.
    """

    model_types: ClassVar = ("llava_onevision",)
    title: ClassVar = "LLaVA-OneVision"
    _ends: ClassVar = 1

    def _frames(self, clips: Sequence[Clip]) -> tuple[Tensor, Box]:
        size = square(self.processing.clips.size, self.processing.image_processor.size)
        frames = [frame for clip in clips for frame in clip.frames]
        return frames_as_pixels(self.processing, frames, [size]), self.seen(size[0])

    def _pool(self, patches: Tensor) -> Tensor:
        halved = [ceil(side / 2) for side in patches.shape[2:]]
        return interpolate(patches, size=halved, mode="bilinear")

    def cuts(self, images: int) -> bool:
        return images == 1

    def pack(
        self, values: Sequence[Tensor], sizes: Sequence[Size], newline: Tensor, *, scaled: bool = True
    ) -> list[Tensor]:
        most = self.config.vision_aspect_ratio if scaled else f"anyres_max_{10**9}"
        return self._packed(values, sizes, image_newline=newline, vision_aspect_ratio=most)
