"""HunYuan-VL: one grid for each image, a token to end every row, and one before and one behind all of them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pruning.grids import Grid
from pruning.models.families.base import Pixels
from pruning.models.families.qwen_vl import Packed


class HunYuanVL(Packed):
    model_types: ClassVar = ("hunyuan_vl",)
    proves: ClassVar = True

    def layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        grids, _ = super().layout(pixels)
        places, row = list[Tensor](), 0
        for grid, count in zip(grids, pixels.counts, strict=True):
            cells = torch.arange(grid.gh * (grid.gw + 1)).view(grid.gh, grid.gw + 1)[:, : grid.gw]
            places.append(row + (count - grid.gh * (grid.gw + 1)) // 2 + cells.flatten())
            row += count
        return grids, torch.cat(places)
