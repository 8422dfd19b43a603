"""Granite Docling: tiles as Idefics3's, and the thumbnail behind them where there are several; DeepStack."""

from __future__ import annotations

from math import isqrt
from typing import Any, ClassVar

from torch import Tensor

from pruning.grids import Grid
from pruning.models.families.base import Family, Pixels
from pruning.models.families.geometry import tiled_grids
from pruning.models.families.idefics3 import TILE
from pruning.models.values import Kind, Rows


class GraniteDocling(Family):
    model_types: ClassVar = ("granite_docling",)
    proves: ClassVar = True

    def layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        grids, seen = list[Grid](), self.seen(self.pixels(pixels).shape[-1])
        for image, (text, count) in enumerate(zip(pixels.texts, pixels.counts, strict=True)):
            rows, columns = (int(number) for number in TILE.findall(text)[-1])
            tiles = rows * columns + (rows * columns > 1)
            grids += tiled_grids(image, (rows, columns), isqrt(count // tiles), grids[-1].stop if grids else 0, seen)
        return tuple(grids), None

    def encoder_output(self, rows: Rows, kind: Kind = "image") -> Any:
        output = super().encoder_output(rows, kind)
        output.router_logits = None  # asked for in training alone
        return output
