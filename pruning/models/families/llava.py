"""LLaVA-1.5 and ViP-LLaVA: one square for each image, cropped or padded as the image processor says.

Nothing differs from the generic adapter; naming them here says that they need no proof on loading. Checkpoints of the
same type with another tower (Pixtral) are none of these.
"""

from typing import ClassVar

from pruning.models.families.base import Family


class Llava(Family):
    model_types: ClassVar = ("llava", "vipllava")
    towers: ClassVar = ("clip_vision_model", "siglip_vision_model")
    title: ClassVar = "LLaVA-1.5, ViP-LLaVA"
