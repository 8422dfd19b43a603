"""Granite 4 Vision: rows from several layers of the tower, each added in a layer of its own; none stands for itself.

Queries of a Q-Former stand in for windows of patches, tile by tile, a mark behind every row: tokens are not placed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pruning.models.families.base import Family, Pixels, flat
from pruning.models.values import Kind, Rows


class Granite4Vision(Family):
    model_types: ClassVar = ("granite4_vision",)
    proves: ClassVar = True

    def features(self, pixels: Pixels) -> Rows:
        given = self.on_device(pixels.inputs)
        output = self.model.model.get_image_features(given["pixel_values"], given["image_sizes"], return_dict=True)
        levels = tuple(flat(rows) for _, rows in output.deepstack_features)
        return Rows(levels[0], levels)

    def encoder_output(self, rows: Rows, kind: Kind = "image") -> Any:
        output = super().encoder_output(rows, kind)
        layers = [layer for _, layer in self.config.deepstack_layer_map] + list(self.config.spatial_target_layers)
        output.deepstack_features = list(zip(layers, output.deepstack_features, strict=True))
        return output
