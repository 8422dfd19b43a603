"""The generic adapter: what a model family must tell about preprocessing, geometry, positions and its tower's insides.

It fits every family of the model library that takes `mm_encoder_outputs` and whose tower gives one token per patch of
a regular grid over the whole picture. A family that cuts pictures up, merges patches or counts positions otherwise has
a file under `families/` that says just that.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isqrt
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from pruning.grids import Grid
from pruning.models.checkpoint.processing import Processing
from pruning.models.families.geometry import (
    WHOLE,
    Box,
    arrangement,
    centre_crop_box,
    check_aspect,
    part_of,
    shortest_edge,
    square_box,
    tiled_grids,
)
from pruning.models.families.tower import TowerAdapter
from pruning.models.language import template
from pruning.models.values import Kind, ModelError, Rows, unsupported
from pruning.rgb import MOST_PIXELS
from pruning.video import Clip


@dataclass(frozen=True)
class Pixels:
    """Preprocessed images.

    inputs: what the tower takes, on the CPU. sizes: (width, height) of the given images. texts: each one's text in the
    prompt. counts: rows of each image. side: what positions follow from. kind: of the rows, as the model takes them.
    steps: of time of each clip, () for pictures; box: what of a frame its tokens cover.
    """

    inputs: dict[str, Any]
    sizes: tuple[tuple[int, int], ...]
    texts: tuple[str, ...]
    counts: tuple[int, ...]
    side: dict[str, Tensor] = field(default_factory=dict)
    kind: Kind = "image"
    steps: tuple[int, ...] = ()
    box: Box = WHOLE


class Family(TowerAdapter):
    """Stateless but for the loaded model and its processor, to which nothing is written, and numbers kept of sizes."""

    model_types: ClassVar[tuple[str, ...]] = ()
    towers: ClassVar[tuple[str, ...]] = ()  # model types of their towers, where others go by the same name
    title: ClassVar[str] = "generic"
    proves: ClassVar[bool] = False  # whether the proof on loading finds out how its tower works
    films: ClassVar[bool] = False  # whether `film` reads clips
    packed: ClassVar[bool] = False  # whether pictures lie one behind the other in the tower, and know of no other

    def __init__(self, model: Any, processing: Processing) -> None:
        self.model = model
        self.processing = processing
        self.config: Any = model.config
        self.placed = True  # whether it is known where its tokens lie; the proof may find that it is not

    # Pictures

    def options(self, images: Sequence[Image.Image], max_tokens: float) -> dict[str, Any]:
        """Options of the image processor for at most `max_tokens` visual tokens each, where the family can choose.

        Raises ValueError for an image that it cannot take.
        """
        return {}

    @property
    def scales(self) -> bool:
        """Whether `options` or `fitted` lead to fewer tokens for a lower `max_tokens`: then `count` tells how many."""
        return False

    def count(self, size: tuple[int, int], images: int, max_tokens: float) -> int:
        """Visual tokens of an image of (width, height) of a question with so many, without running the tower."""
        raise NotImplementedError(f"{self.title}: asked for the tokens of a size, though `scales` is false")

    def preprocess(self, images: Sequence[Image.Image], max_tokens: float) -> Pixels:
        """RGB images -> tower inputs. Raises ValueError for what the family cannot take."""
        for image in images:
            check_aspect(*image.size)
        given = [self.fitted(image, len(images), max_tokens) for image in images]
        inputs, texts = self.processing.images(given, self.options(images, max_tokens))
        token = self.processing.tokenizer.convert_ids_to_tokens(self.config.image_token_id)
        return Pixels(inputs, tuple(i.size for i in images), texts, tuple(text.count(token) for text in texts))

    @staticmethod
    def pixels(pixels: Pixels) -> Tensor:
        """What the tower sees of all images, by whichever name the model takes it."""
        found: Tensor = next(value for name, value in pixels.inputs.items() if name.startswith("pixel_values"))
        return found

    def check_clips(self) -> None:
        """Raise ModelError, with the reason, unless the model can be asked about clips."""
        if not self.films:
            raise ModelError(
                f"clips are not read for models of type {self.config.model_type}: ask about a picture, or choose a "
                "model of Qwen-VL, LLaVA-OneVision, LLaVA-NeXT-Video, InternVL or SmolVLM2"
            )
        template.check_clips(self.processing.tokenizer, self.processing.clip_template, self.processing.marks["video"])

    def film(self, clips: Sequence[Clip], max_tokens: float, among: Sequence[int] = ()) -> Pixels:
        """Clips -> tower inputs, where `films`. Raises ValueError for one that the family cannot take.

        max_tokens: of a step of a clip. among: how many frames each clip has, where these are but some of them: they
        are as large as among all; (): these are all.
        """
        raise NotImplementedError(f"{self.title}: asked for a clip, though `films` is false")

    def film_layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        """`layout` of clips: each is one grid of its steps, with as many rows as columns."""
        grids = list[Grid]()
        for clip, (steps, count) in enumerate(zip(pixels.steps, pixels.counts, strict=True)):
            side = isqrt(count // steps)
            grids.append(Grid(steps, side, side, grids[-1].stop if grids else 0, clip, box=pixels.box))
        return tuple(grids), None

    def fitted(self, image: Image.Image, images: int, max_tokens: float) -> Image.Image:
        """An image of a question with so many, as the image processor gets it: scaled down where that would need too
        much memory (it may pad to a square) or give more than `max_tokens`, and has no option for it.
        """
        scale = isqrt(MOST_PIXELS) / max(image.size)
        if scale >= 1 or not hasattr(self.processing.image_processor, "pad_to_square"):
            return image
        return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)

    def layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        """The grids of all images, and (N,) int64: the row of each token among all R (None: token i is row i).

        Tokens of which it is not known where they lie, or that have all seen the whole image, are not placed.
        """
        grids: list[Grid] = []
        for image, (count, size) in enumerate(zip(pixels.counts, pixels.sizes, strict=True)):
            if not count:
                raise unsupported(self.config.model_type, "their processor writes no image token for a picture")
            if not self.placed:
                grids.append(Grid(1, 1, count, grids[-1].stop if grids else 0, image, placed=False))
                continue
            if tiles := self._squares(pixels, image):
                side, seen = isqrt(count // tiles), self.seen(self.pixels(pixels).shape[-1])
                if tiles * side**2 == count:
                    cut = arrangement(max(1, tiles - 1), *size)
                    grids += tiled_grids(image, cut, side, grids[-1].stop if grids else 0, seen)
                    continue
            rows, columns, box = self._cells(pixels, image)
            placed = rows * columns == count
            shape = (rows, columns) if placed else (1, count)
            grids.append(Grid(1, *shape, grids[-1].stop if grids else 0, image, box=box, placed=placed))
        return tuple(grids), None

    def _squares(self, pixels: Pixels, image: int) -> int:
        """Equal squares that an image was stretched to and cut into, its thumbnail the last of them; 0 where the image
        processor cuts nothing, or not so.
        """
        processor, shape = self.processing.image_processor, self.pixels(pixels).shape
        asked = self.processing.asked
        cuts = asked.get("crop_to_patches", getattr(processor, "crop_to_patches", False))
        if not cuts or not hasattr(processor, "get_number_of_image_patches") or len(shape) != 4:
            return 0
        return int(processor.get_number_of_image_patches(*pixels.sizes[image][::-1], asked))

    def _cells(self, pixels: Pixels, image: int) -> tuple[int, int, Box]:
        """(rows, columns) of an image's tokens and what they cover; (0, 0) where it is not known."""
        shape, places = self.pixels(pixels).shape, pixels.inputs.get("image_position_ids")
        if places is not None and len(shape) == 3:  # (x, y) of every patch of a stretched image; -1: of padding
            across, down = (int(last) + 1 for last in places[image].amax(0))
            cell = int(getattr(self.processing.image_processor, "pooling_kernel_size", 1))
            return down // cell, across // cell, WHOLE
        if "image_grid_thw" in pixels.inputs:  # patches of every stretched image, along each axis
            cell = int(getattr(self.processing.image_processor, "merge_size", 1))
            _, rows, columns = (int(side) // cell for side in pixels.inputs["image_grid_thw"][image])
            return rows, columns, WHOLE
        if len(shape) == 4 and "image_sizes" in pixels.inputs:  # the (height, width) that each image was stretched to
            cell = self._patch * getattr(self.config, "spatial_merge_size", 1)
            height, width = (int(side) for side in pixels.inputs["image_sizes"][image])
            return height // cell, width // cell, WHOLE
        if shape == (len(pixels.sizes), 3, shape[-1], shape[-1]):  # one square for each image
            side = isqrt(pixels.counts[image])
            return side, side, part_of(self.picture_box(*pixels.sizes[image]), self.seen(shape[-1]))
        return 0, 0, WHOLE

    def picture_box(self, width: int, height: int) -> Box:
        """What of an image the image processor hands to the tower: padded to a square, stretched, cropped."""
        processor, box = self.processing.image_processor, WHOLE
        if getattr(processor, "do_pad", False) and hasattr(processor, "pad_to_square"):
            box = square_box(width, height)
            width = height = max(width, height)
        if getattr(processor, "do_center_crop", False):
            resized, crop = (width, height), processor.crop_size
            if getattr(processor, "do_resize", True):
                size = dict(processor.size)
                short = size.get("shortest_edge")
                resized = shortest_edge(width, height, short) if short else (size["width"], size["height"])
            box = part_of(box, centre_crop_box(resized, (crop["width"], crop["height"])))
        return box

    def seen(self, side: int) -> Box:
        """What of a picture of side × side pixels the tower's patches cover: what no patch fits into is lost."""
        covered = side // self._patch * self._patch / side
        return (0.0, 0.0, covered, covered)

    @property
    def _patch(self) -> int:
        """Side of the tower's square patches, in pixels."""
        size = getattr(self.config.vision_config, "patch_size", None)
        if size is None:  # told by a part of it
            size = next(
                part.patch_size for part in vars(self.config.vision_config).values() if hasattr(part, "patch_size")
            )
        return int(size if isinstance(size, int) else size[0])

    def patches(self, pixels: Pixels) -> int:
        """Patches that the tower is given, padding among them."""
        values = self.pixels(pixels)
        if values.ndim == 2:  # patches of all images, one after the other
            return len(values)
        if values.ndim == 3:  # patches already: (images, patches, their pixels)
            return values.shape[0] * values.shape[1]
        return int(values.numel()) // (values.shape[-3] * self._patch**2)

    # Tower

    def features(self, pixels: Pixels) -> Rows:
        """Run the vision tower and projector: the rows that the language model would receive."""
        taken = inspect.signature(self.model.model.get_image_features).parameters
        inputs = {name: value for name, value in self.on_device(pixels.inputs).items() if name in taken}
        output = self.model.model.get_image_features(**inputs, return_dict=True)
        levels = getattr(output, "deepstack_features", None) or ()
        return told(output, "image", tuple(flat(level) for level in levels))

    def on_device(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The tensors among the inputs on the model's device, pixels in its dtype."""
        moved = {name: value.to(self.model.device) for name, value in inputs.items() if isinstance(value, Tensor)}
        dtype = self.model.dtype
        return {
            n: value.to(dtype) if n.startswith("pixel_values") and value.is_floating_point() else value
            for n, value in moved.items()
        }

    @cached_property
    def placeholders(self) -> tuple[int, ...]:
        """Token ids of what stands for a row in a prompt: of pictures, and of clips where these have another."""
        video = getattr(self.config, "video_token_id", None) if self.films else None
        return (int(self.config.image_token_id), *(() if video is None else (int(video),)))

    def encoder_output(self, rows: Rows, kind: Kind = "image") -> Any:
        """Rows of a whole batch, one sample after the other, as the value of `mm_encoder_outputs` for their kind."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        device, dtype = self.model.device, self.model.dtype
        features = rows.features.to(device, dtype)
        output: Any = BaseModelOutputWithPooling(pooler_output=features[None] if kind in rows.stacked else [features])
        if rows.deepstack:
            output.deepstack_features = [[level.to(device, dtype)] for level in rows.deepstack]
        return output

    def positions(self, input_ids: Tensor, side: dict[str, Tensor]) -> Tensor:
        """Positions of an unpruned prompt (1, n): (3, 1, n) with M-RoPE, else (1, n)."""
        taken = self._position_inputs
        if not taken:
            return torch.arange(input_ids.shape[1])[None]
        types = (input_ids == self.config.image_token_id).int()
        types += 2 * (input_ids == getattr(self.config, "video_token_id", None))
        whole = {"mm_token_type_ids": types, "attention_mask": torch.ones_like(input_ids)}
        given = {name: value for name, value in whole.items() if name in taken}
        device = self.model.device
        told: dict[str, Any] = {name: value.to(device) for name, value in (given | side).items()}
        positions: Tensor = self.model.model.get_rope_index(input_ids.to(device), **told)[0]
        return positions.cpu()

    def side(self, pixels: Pixels) -> dict[str, Tensor]:
        """Small inputs of the tower that positions follow from."""
        own = {name: value for name, value in pixels.inputs.items() if isinstance(value, Tensor)}
        named = {name: value for name, value in own.items() if name in self._position_inputs}
        return pixels.side or named or {name: value for name, value in own.items() if name == "image_grid_thw"}

    @cached_property
    def _position_inputs(self) -> frozenset[str]:
        """Names of what positions are computed from; none where tokens are counted one by one."""
        count = getattr(self.model.model, "get_rope_index", None)
        return frozenset() if count is None else frozenset(inspect.signature(count).parameters)

    def arrange(self, tokens: Tensor, pixels: Pixels) -> Tensor:
        """(S, p, C) in the tower's order -> (N, C), or all rows (R, C) where `layout` gives places."""
        return tokens.flatten(0, 1)

    @property
    def marked(self) -> tuple[int, ...]:
        """Ids of the tokens that `image_marks` is about: experts for pictures take those around them, too."""
        if self.image_marks != "moe_mm_token_type_ids":
            return self.placeholders
        around = ("image_start_token_id", "image_end_token_id")
        return (*self.placeholders, *(int(getattr(self.config, name)) for name in around))

    @cached_property
    def image_marks(self) -> str:
        """By what the language model is told which tokens are visual, to let those see each other both ways, or go to
        experts of their own; "": by nothing.
        """
        taken = inspect.signature(self.model.forward).parameters
        for name in ("token_type_ids", "moe_mm_token_type_ids"):
            if name in taken:
                return name
        both_ways = getattr(self.config.get_text_config(), "use_bidirectional_attention", None) == "vision"
        return "mm_token_type_ids" if both_ways and "mm_token_type_ids" in taken else ""


def told(output: Any, kind: Kind, levels: tuple[Tensor, ...] = ()) -> Rows:
    """What a tower and projector gave, as rows of a kind. levels: DeepStack's."""
    stacked = frozenset({kind}) if isinstance(output.pooler_output, Tensor) else frozenset[Kind]()
    features = flat(output.pooler_output)
    return Rows(features, levels, stacked, None if kind == "image" else torch.ones(len(features), dtype=torch.bool))


def flat(value: Any) -> Tensor:
    """The tower's output, a tensor or one tensor for each image, as (R, D)."""
    tensors = [value] if isinstance(value, Tensor) else list(value)
    return torch.cat([tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors])
