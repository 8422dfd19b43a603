"""Lower resolution: the picture made smaller, so that the tower gives fewer tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruning.encoding import Encoding, EncodingMethod, register_encoding


@register_encoding
@dataclass(frozen=True)
class LowerResolution(EncodingMethod):
    """Encode the pictures anew, at the size that gives the most tokens up to K, each picture's shape kept.

    The size is set by the image processor's own options: a limit of pixels, or of tiles. They count for every picture
    of a question alike, so the largest ones shrink first. K is reached as far as whole rows, columns or tiles allow.
    At K = N the pictures are as they were.
    """

    name: ClassVar[str] = "lower_resolution"
    title: ClassVar[str] = "Lower resolution"

    def ask(self, n: int, budget: int) -> Encoding:
        return Encoding(budget, self.axis)
