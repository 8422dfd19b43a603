"""A clip as the project passes it on: the frames that were taken of it, and when each of them is shown."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from PIL import Image


class VideoError(ValueError):
    """Not a usable clip. The message names the cause and the remedy."""


RATE = 2.0
FRAMES = 16


@dataclass(frozen=True)
class Sampling:
    """Which frames are taken of a clip. rate: of each second. frames: the most in all.

    Raises ValueError for a rate or number that is none.

    >>> Sampling(frames=0)
    Traceback (most recent call last):
        ...
    ValueError: the most frames must be a whole number of at least 1, not 0
    """

    rate: float = RATE
    frames: int = FRAMES

    def __post_init__(self) -> None:
        rate, frames = self.rate, self.frames
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1000:
            raise ValueError(f"the rate must be a number of frames a second, above 0 and at most 1000, not {rate!r}")
        if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
            raise ValueError(f"the most frames must be a whole number of at least 1, not {frames!r}")

    def but(self, rate: float | None, frames: int | None) -> Sampling:
        """With another rate, or number of frames, where one is given.

        >>> Sampling(2, 16).but(None, 4)
        Sampling(rate=2, frames=4)
        """
        return Sampling(self.rate if rate is None else rate, self.frames if frames is None else frames)


@dataclass(frozen=True, eq=False)
class Clip:
    """F frames of a clip, in order.

    frames:   F RGB pictures of one size, upright.
    times:    of each, seconds from the start; rising, the first of them 0 unless the clip was cut.
    duration: of the clip, seconds. total: frames that the clip has.
    notes:    sentences on what was changed.
    Raises VideoError for no frame, frames of several sizes, or times that do not rise.

    >>> clip = Clip((Image.new("RGB", (8, 6)),) * 3, (0.0, 0.5, 1.25), duration=2.0, total=50)
    >>> clip.size, clip.seconds_per_frame, clip.summary
    ((8, 6), 0.625, '3 of 50 frames, 1.6 a second')
    """

    frames: tuple[Image.Image, ...]
    times: tuple[float, ...]
    duration: float
    total: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.times):
            raise VideoError(f"a clip needs frames, and a time for each: not {len(self.frames)} and {len(self.times)}")
        if len({frame.size for frame in self.frames}) > 1:
            raise VideoError(f"the frames of a clip must have one size, not {sorted({f.size for f in self.frames})}")
        if any(after <= before for before, after in pairwise(self.times)):
            raise VideoError(f"the times of a clip's frames must rise, unlike {self.times}")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of every frame."""
        return self.frames[0].size

    @property
    def seconds_per_frame(self) -> float:
        """The mean distance of two frames; of a single frame, how long the clip is."""
        if len(self.times) == 1:
            return self.duration or 1.0
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)

    @property
    def summary(self) -> str:
        """How many frames were taken."""
        if len(self.frames) == 1:
            return f"1 of {self.total} frame{'s' * (self.total != 1)}"
        return f"{len(self.frames)} of {self.total} frames, {1 / self.seconds_per_frame:.3g} a second"
