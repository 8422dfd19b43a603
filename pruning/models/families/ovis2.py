"""Ovis2: every token is a mixture of a visual vocabulary; the thumbnail stands first, tiles row by row behind it.

The marks around tiles are embeddings of that vocabulary, too: the model wants them beside the rows.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, ClassVar

import torch
from torch import Tensor

from pruning.grids import Grid, Role
from pruning.models.families.base import Family, Pixels
from pruning.models.families.geometry import part_of, tile_boxes
from pruning.models.values import Kind, Rows


class Ovis2(Family):
    model_types: ClassVar = ("ovis2",)
    proves: ClassVar = True

    def layout(self, pixels: Pixels) -> tuple[tuple[Grid, ...], Tensor | None]:
        side, grids = isqrt(int(self.processing.processor.image_seq_length)), list[Grid]()
        seen = self.seen(self.pixels(pixels).shape[-1])
        for image, text in enumerate(pixels.texts):
            rows = text.count("<IMG_ROW>") + 1
            columns = text.count("<IMG_COL>") // rows + 1
            cut = rows * columns > 1
            boxes = [seen, *(part_of(box, seen) for box in tile_boxes(rows, columns) if cut)]
            for number, box in enumerate(boxes):
                role: Role = "whole" if not cut else "tile" if number else "thumbnail"
                grids.append(Grid(1, side, side, grids[-1].stop if grids else 0, image, role, box))
        return tuple(grids), None

    def encoder_output(self, rows: Rows, kind: Kind = "image") -> Any:
        output, model = super().encoder_output(rows, kind), self.model.model
        marks = model.vision_tower.num_visual_indicator_tokens
        last = torch.arange(model.visual_vocab_size - marks, model.visual_vocab_size, device=self.model.device)
        with torch.no_grad():
            output.visual_indicator_features = model.visual_embeddings_table(last)
        return output
