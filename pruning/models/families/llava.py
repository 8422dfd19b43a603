"""LLaVA-1.5 and ViP-LLaVA: one square for each image, cropped or padded as the image processor says.

Nothing differs from the generic adapter; naming them here says that they need no proof on loading. Checkpoints of the
same type with another tower (Pixtral) are none of these.
"""

from functools import cached_property
from typing import ClassVar

from pruning.models.families.base import Family


class Llava(Family):
    model_types: ClassVar = ("llava", "vipllava")
    towers: ClassVar = ("clip_vision_model", "siglip_vision_model")
    title: ClassVar = "LLaVA-1.5, ViP-LLaVA"

    @cached_property
    def shortenings(self) -> int:
        layer, depth = getattr(self.config, "vision_feature_layer", None), len(self.attentions)
        if not isinstance(layer, int) or not depth:  # ViP-LLaVA takes several layers side by side
            return 0
        if bool(self.cls) != (self.config.vision_feature_select_strategy == "default"):  # CLS becomes a token
            return 0
        return max(0, layer % (depth + 1) - 1)  # counted as the states between layers: 0 is what enters the first
