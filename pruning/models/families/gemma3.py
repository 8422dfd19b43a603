"""Gemma 3: the image is stretched to a square; 4 × 4 patches are averaged to a token; image tokens see each other.

The language model lets the tokens of an image attend to each other both ways, so it is told which tokens are visual
(`image_marks`), and most of its layers see only a window of the last tokens. Windows stay where they were: a pruned
prompt looks as far back as the whole one (`language.passes`), where the attention kernel takes a mask of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from PIL import Image

from pruning.models.families.base import Family


class Gemma3(Family):
    model_types: ClassVar = ("gemma3",)
    title: ClassVar = "Gemma 3"

    def options(self, images: Sequence[Image.Image], max_tokens: float) -> dict[str, Any]:
        return {"do_pan_and_scan": False}  # as in the released checkpoints: 256 tokens each, no crops

    @cached_property
    def merge(self) -> int:
        return int(self.projector.kernel_size)
