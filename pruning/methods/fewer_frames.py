"""Fewer frames: the clip read at a lower rate, so that the tower gives fewer tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruning.encoding import FRAMES, Axis, Encoding, EncodingMethod, register_encoding


@register_encoding
@dataclass(frozen=True)
class FewerFrames(EncodingMethod):
    """Encode the clips anew, with the most frames, evenly spaced, that give up to K tokens; each frame as it was.

    What an application does that has no pruning. K is reached as far as whole steps of time allow. Several clips give
    up the same share of their steps, and each keeps one; pictures beside them stay as they are. At K = N the clips are
    as they were.
    """

    name: ClassVar[str] = "fewer_frames"
    title: ClassVar[str] = "Fewer frames"
    axis: ClassVar[Axis] = FRAMES
    clips: ClassVar[bool] = True

    def ask(self, n: int, budget: int) -> Encoding:
        return Encoding(budget, self.axis)
