"""The generic adapter: what a model family must tell about preprocessing, geometry, positions and its tower's insides.

It fits every family of the model library that takes `mm_encoder_outputs` and whose tower gives one token per patch of
a regular grid over the whole picture. A family that cuts pictures up, merges patches or counts positions otherwise has
a file under `families/` that says just that.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from pruning.models.geometry import WHOLE, Box, centre_crop_box, check_aspect, part_of, shortest_edge, square_box
from pruning.models.processing import Processing
from pruning.models.values import ModelError, Rows
from pruning.tokens import Grid


@dataclass(frozen=True)
class Pixels:
    """Preprocessed images.

    inputs: what the tower takes, on the CPU. sizes: (width, height) of the given images. texts: each one's text in the
    prompt. counts: rows of each image.
    """

    inputs: dict[str, Any]
    sizes: tuple[tuple[int, int], ...]
    texts: tuple[str, ...]
    counts: tuple[int, ...]


class Family:
    """Stateless but for the loaded model and its processor; nothing is written to either.

    Patches of the tower are shaped (S, P, C): S pictures or tiles of P patches (towers that pack: S = 1).
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str] = "generic"

    def __init__(self, model: Any, processing: Processing) -> None:
        self.model = model
        self.processing = processing
        self.config: Any = model.config

    # Pictures

    def options(self, images: Sequence[Image.Image], max_tokens: int) -> dict[str, Any]:
        """Options of the image processor for at most `max_tokens` visual tokens each, where the family can choose.

        Raises ValueError for an image that it cannot take.
        """
        return {}

    def preprocess(self, images: Sequence[Image.Image], max_tokens: int) -> Pixels:
        """RGB images -> tower inputs. Raises ValueError for what the family cannot take."""
        for image in images:
            check_aspect(*image.size)
        inputs, texts = self.processing.images(images, self.options(images, max_tokens))
        token = self.processing.tokenizer.convert_ids_to_tokens(self.config.image_token_id)
        return Pixels(inputs, tuple(i.size for i in images), texts, tuple(text.count(token) for text in texts))

    def layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        """The grids of all images, and (N,) int64: the row of each token among all R (None: token i is row i)."""
        grids: list[Grid] = []
        shape = pixels.inputs["pixel_values"].shape  # one square (3, side, side) for each image
        for image, (count, size) in enumerate(zip(pixels.counts, pixels.sizes, strict=True)):
            side = isqrt(count)
            if side * side != count or shape != (len(pixels.sizes), 3, shape[-1], shape[-1]):
                raise ModelError(
                    f"models of type {self.config.model_type} are not supported: they make {count} tokens of a picture "
                    f"of {size[0]}×{size[1]} pixels, and where these lie on it is not known"
                )
            start = grids[-1].stop if grids else 0
            box = part_of(self.picture_box(*size), self.seen(shape[-1]))
            grids.append(Grid(1, side, side, start, image, box=box))
        return tuple(grids), None

    def picture_box(self, width: int, height: int) -> Box:
        """What of an image the image processor hands to the tower: padded to a square, stretched, cropped."""
        processor, box = self.processing.image_processor, WHOLE
        if getattr(processor, "do_pad", False) and hasattr(processor, "pad_to_square"):
            box = square_box(width, height)
            width = height = max(width, height)
        if getattr(processor, "do_center_crop", False):
            resized, crop = (width, height), processor.crop_size
            if getattr(processor, "do_resize", True):
                short = processor.size.shortest_edge
                resized = (
                    shortest_edge(width, height, short) if short else (processor.size.width, processor.size.height)
                )
            box = part_of(box, centre_crop_box(resized, (crop.width, crop.height)))
        return box

    def seen(self, side: int) -> Box:
        """What of a picture of side × side pixels the tower's patches cover: what no patch fits into is lost."""
        patch = int(self.config.vision_config.patch_size)
        covered = side // patch * patch / side
        return (0.0, 0.0, covered, covered)

    # Tower

    def features(self, pixels: Pixels) -> Rows:
        """Run the vision tower and projector: the rows that the language model would receive."""
        taken = inspect.signature(self.model.model.get_image_features).parameters
        inputs = {name: value for name, value in self.on_device(pixels.inputs).items() if name in taken}
        output = self.model.model.get_image_features(**inputs, return_dict=True)
        levels = getattr(output, "deepstack_features", None) or ()
        stacked = isinstance(output.pooler_output, Tensor)
        return Rows(flat(output.pooler_output), tuple(flat(level) for level in levels), stacked)

    def on_device(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The tensors among the inputs on the model's device, pixels in its dtype."""
        moved = {name: value.to(self.model.device) for name, value in inputs.items() if isinstance(value, Tensor)}
        return {name: value.to(self.model.dtype) if name == "pixel_values" else value for name, value in moved.items()}

    def encoder_output(self, rows: Rows) -> Any:
        """Rows of a whole batch, one sample after the other, as the value of `mm_encoder_outputs["image"]`."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        features = rows.features.to(self.model.device, self.model.dtype)
        return BaseModelOutputWithPooling(pooler_output=features[None] if rows.stacked else [features])

    def positions(self, input_ids: Tensor, side: dict[str, Tensor]) -> Tensor:
        """Positions of an unpruned prompt (1, n): (3, 1, n) with M-RoPE, else (1, n)."""
        if not hasattr(self.model.model, "get_rope_index"):
            return torch.arange(input_ids.shape[1])[None]
        types = (input_ids == self.config.image_token_id).int()
        positions: Tensor = self.model.model.get_rope_index(input_ids, mm_token_type_ids=types, **side)[0]
        return positions

    @cached_property
    def marks_images(self) -> bool:
        """Whether the language model is told which tokens are visual (to let those see each other both ways)."""
        return "token_type_ids" in inspect.signature(self.model.forward).parameters

    # Insides of the tower, for signals

    @cached_property
    def tower(self) -> Any:
        """The vision tower."""
        for name in ("visual", "vision_tower", "vision_model"):
            if hasattr(self.model.model, name):
                return getattr(self.model.model, name)
        raise ModelError(f"models of type {self.config.model_type} are not supported: no vision tower found in them")

    @cached_property
    def attentions(self) -> list[nn.Module]:
        """The attention module of every layer of the tower, in order; empty where they are not understood."""
        lists = [module for module in self.tower.modules() if isinstance(module, nn.ModuleList)]
        layers = max(lists, key=len, default=nn.ModuleList())
        found = [next((m for m in layer.children() if "Attention" in type(m).__name__), None) for layer in layers]
        known = [m for m in found if m is not None and (hasattr(m, "qkv") or hasattr(m, "q_proj"))]
        return known if len(known) == len(layers) else []

    @cached_property
    def cls(self) -> int:
        """1 where the tower puts a CLS place before the patches, else 0."""
        names = {name.rpartition(".")[2] for name, _ in self.tower.named_parameters()}
        return int(bool(names & {"class_embedding", "cls_token"}))

    @cached_property
    def projector(self) -> Any:
        """The module between tower and language model; called once with (S, P', C)."""
        for name in ("multi_modal_projector", "connector"):
            if hasattr(self.model.model, name):
                return getattr(self.model.model, name)
        return None

    def layer(self, number: int) -> int:
        """Index of vision layer L; negative L counts from the end, layers that see the whole picture first."""
        return number % len(self.attentions)

    @cached_property
    def merge(self) -> int:
        """Patches along a side of the square that becomes one token."""
        return 1

    def shrink(self, patches: Tensor) -> Tensor:
        """(S, P, C) -> (S, p, C): the mean over the patches of each token, in the tower's order."""
        sequences, count, width = patches.shape
        if self.merge == 1:
            return patches
        side = isqrt(count) // self.merge
        squares = patches.reshape(sequences, side, self.merge, side, self.merge, width)
        return squares.mean((2, 4)).flatten(1, 2)

    def shrink_input(self, given: Tensor) -> Tensor:
        """What the projector was called with -> (S, p, C), the mean over the patches of each token."""
        return self.shrink(given)

    def arrange(self, tokens: Tensor, pixels: Pixels) -> Tensor:
        """(S, p, C) in the tower's order -> (N, C), or all rows (R, C) where `layout` gives places."""
        return tokens.flatten(0, 1)

    def widen(self, offset: Tensor) -> Tensor:
        """(C,) to be added to a patch -> what is to be added to the projector's input."""
        return offset


def flat(value: Any) -> Tensor:
    """The tower's output, a tensor or one tensor for each image, as (R, D)."""
    tensors = [value] if isinstance(value, Tensor) else list(value)
    return torch.cat([tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors])
