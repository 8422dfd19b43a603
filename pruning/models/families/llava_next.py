"""LLaVA-NeXT and its kin: a thumbnail stretched to a square, and tiles of the image itself.

The tiles lie on a canvas, the image in its middle; patches of the margin are dropped again (un-padding). What is left
enters the prompt row by row across all tiles, each row closed by a newline row that is never pruned. Tokens are told
tile by tile all the same, so that budgets and attention can be per tile: `places` says in which row each one stands.

Un-padding, re-ordering and scaling are the library's: whatever is to follow the features goes through the model's own
`pack_image_features`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruning.grids import Grid
from pruning.models.checkpoint.processing import Processing
from pruning.models.families.base import Family, Pixels
from pruning.models.families.geometry import Box, part_of, square_box

Size = tuple[int, int]  # height, width: the library's order
MOST_KNOWN = 4096  # numbers that are kept of sizes
STEP = 0.9  # by which an image with too many tokens is scaled down, again and again


class LlavaNext(Family):
    """Every image is cut up, also where there are several."""

    model_types: ClassVar = ("llava_next",)
    title: ClassVar = "LLaVA-NeXT"

    def __init__(self, model: Any, processing: Processing) -> None:
        super().__init__(model, processing)
        self._known: dict[Hashable, int] = {}

    def layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        grids, places, row = list[Grid](), list[Tensor](), 0
        for image, size in enumerate(_sizes(pixels)):
            for grid, rows in self._parts(size, self.cuts(len(pixels.sizes))):
                grids.append(replace(grid, start=grids[-1].stop if grids else 0, image=image))
                places.append(row + rows)
            row += pixels.counts[image]
        return tuple(grids), torch.cat(places)

    def arrange(self, tokens: Tensor, pixels: Pixels) -> Tensor:
        sizes = _sizes(pixels)
        tiles = [self._tiles(size) if self.cuts(len(sizes)) else 1 for size in sizes]
        return torch.cat(self.pack(tokens.split(tiles), sizes, tokens.new_zeros(tokens.shape[-1])))

    def cuts(self, images: int) -> bool:
        """Whether the images of a question with so many are cut into tiles."""
        return True

    def pack(
        self, values: Sequence[Tensor], sizes: Sequence[Size], newline: Tensor, *, scaled: bool = True
    ) -> list[Tensor]:
        """Per image (tiles, p, C) in the tower's order -> (R, C), `newline` (C,) after every row; thumbnail first.

        scaled: as the model does, to fewer rows and columns where there are too many; else not.
        """
        return self._packed(values, sizes, vision_feature_select_strategy="full", image_newline=newline)

    def _packed(self, values: Sequence[Tensor], sizes: Sequence[Size], **settings: Any) -> list[Tensor]:
        packed: list[Tensor] = self.model.model.pack_image_features(values, [list(size) for size in sizes], **settings)[
            0
        ]
        return packed

    @property
    def _side(self) -> int:
        """Pixels along a tile."""
        return int(self.config.vision_config.image_size)

    @property
    def _patch(self) -> int:
        return int(self.config.vision_config.patch_size)

    def _tiles(self, size: Size) -> int:
        """Tiles of an image, thumbnail included."""
        library = importlib.import_module(type(self.model.model).__module__)
        return int(library.image_size_to_num_patches(list(size), self.config.image_grid_pinpoints, self._side))

    def fitted(self, image: Image.Image, images: int, max_tokens: float) -> Image.Image:
        """Where it is cut up: scaled down until it has at most `max_tokens`, or fits into one tile."""
        if not self.cuts(images):
            return super().fitted(image, images, max_tokens)
        size = self._fitting(image.size, max_tokens)
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)

    @property
    def scales(self) -> bool:
        return True

    def count(self, size: tuple[int, int], images: int, max_tokens: float) -> int:
        cut = self.cuts(images)
        width, height = self._fitting(size, max_tokens) if cut else size
        key = "count", (height, width), cut
        return self._once(key, lambda: sum(grid.count for grid, _ in self._parts((height, width), cut)))

    def _fitting(self, size: tuple[int, int], max_tokens: float) -> tuple[int, int]:
        """(width, height) of an image that is cut up, as `fitted` scales it."""
        scale = 1.0
        while True:
            width, height = (max(1, round(length * scale)) for length in size)
            if max(width, height) <= self._side or self._rows((height, width)) <= max_tokens:
                return width, height
            scale *= STEP

    def _rows(self, size: Size) -> int:
        return self._once(("rows", size), lambda: len(self._numbers(size)))

    def _once(self, key: Hashable, find: Callable[[], int]) -> int:
        """What was found out for a size: whoever looks for a resolution asks for the same ones, limit after limit."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[key] = find()
        return found

    def _numbers(self, size: Size, *, scaled: bool = True) -> Tensor:
        """(R,) which patch of the tower, counted through all tiles, each row of an image stands for; -1: newline."""
        tiles, patches = self._tiles(size), (self._side // self._patch) ** 2
        numbers = torch.arange(tiles * patches, dtype=torch.float32).view(tiles, patches, 1)
        return self.pack([numbers], [size], torch.tensor([-1.0]), scaled=scaled)[0][:, 0]

    def _parts(self, size: Size, cut: bool) -> list[tuple[Grid, Tensor]]:
        """The grids of one image, and the row of each of their tokens among the image's rows."""
        side = self._side // self._patch
        patches = side * side
        whole = Grid(1, side, side, role="thumbnail", box=self.seen(self._side))
        first = torch.arange(patches)
        if not cut:
            padded = square_box(size[1], size[0])
            return [(replace(whole, role="whole", box=part_of(padded, whole.box)), first)]
        rows = self._numbers(size)[patches:]
        inside = (rows >= 0).nonzero()[:, 0]
        numbers = self._numbers(size, scaled=False)[patches:]
        numbers = numbers[numbers >= 0].long() - patches  # none where all of a very thin image is taken for margin
        if len(numbers) == len(inside):
            tiles = [numbers // patches == tile for tile in (numbers // patches).unique()]
            groups = [(numbers[mine], inside[mine], len((numbers[mine] // side).unique())) for mine in tiles]
        else:  # scaled down: cells run across the borders of tiles
            groups = [(numbers, inside, len(rows) - len(inside))]
        cut_up = [(Grid(1, gh, len(r) // gh, role="tile", box=self._box(n, size)), patches + r) for n, r, gh in groups]
        return [(whole, first), *cut_up]

    def _box(self, numbers: Tensor, size: Size) -> Box:
        """What of the image the patches `numbers`, a rectangle of the canvas, cover."""
        from transformers.image_processing_utils import get_patch_output_size, select_best_resolution

        canvas = select_best_resolution(size, self.config.image_grid_pinpoints)
        image = get_patch_output_size(np.broadcast_to(np.uint8(0), (1, *size)), canvas, "channels_first")
        side = self._side // self._patch
        tile, patch = numbers // side**2, numbers % side**2
        columns = canvas[1] // self._side
        edges = []
        for across, cell, outer, inner in (
            (tile % columns, patch % side, canvas[1], image[1]),
            (tile // columns, patch // side, canvas[0], image[0]),
        ):
            start = across * self._side + cell * self._patch - (outer - inner) // 2  # pixels from the image's edge
            edges.append((int(start.min()) / inner, (int(start.max()) + self._patch) / inner))
        (x0, x1), (y0, y1) = edges
        return (x0, y0, x1, y1)


def _sizes(pixels: Pixels) -> list[Size]:
    return [(height, width) for height, width in pixels.inputs["image_sizes"].tolist()]
