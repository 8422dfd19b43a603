"""Which frames of clips are taken for a number of visual tokens: asked of the family, before the tower runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from pruning.encoding import Encoding, OutOfReachError
from pruning.models.families.base import Family
from pruning.ops.lattice import centres
from pruning.video import Clip


def taken(
    family: Family, title: str, clips: Sequence[Clip], most: float, asked: Encoding, beside: int = 0
) -> tuple[tuple[int, ...], ...]:
    """Of each clip the frames, evenly spaced and ascending, with which all have the most tokens up to `asked.most`.

    Every clip gives up the same share of its steps of time, and keeps one; each frame has the tokens it has among all.
    title: of the model. most: tokens of a step. beside: tokens of pictures, which stay. Raises OutOfReachError where
    one step of each clip is too much.
    """
    joined, sizes = zip(*(_step(family, clip, most) for clip in clips), strict=True)
    steps = [-(-len(clip.frames) // each) for clip, each in zip(clips, joined, strict=True)]

    def kept(share: Fraction) -> list[int]:
        return [max(1, int(share * count)) for count in steps]

    def total(share: Fraction) -> int:
        return beside + sum(count * size for count, size in zip(kept(share), sizes, strict=True))

    shares = {Fraction(part, count) for count in steps for part in range(1, count + 1)}
    within = [share for share in shares if total(share) <= asked.most]
    if not within:
        fewest = total(Fraction(0))
        whole = "a step of each clip" if len(clips) > 1 else "one step of the clip"
        raise OutOfReachError(
            f"{title} makes {fewest} visual tokens of {whole}{' and the pictures beside it' * (beside > 0)}, and "
            f"{asked.most} are asked for: ask for {fewest} or more, or choose a method that chooses among the tokens"
        )
    counts = [
        min(len(clip.frames), count * each) for clip, count, each in zip(clips, kept(max(within)), joined, strict=True)
    ]
    return tuple(tuple(centres(len(clip.frames), count)) for clip, count in zip(clips, counts, strict=True))


def some(clip: Clip, frames: Sequence[int]) -> Clip:
    """The clip with these of its frames alone."""
    return replace(clip, frames=tuple(clip.frames[at] for at in frames), times=tuple(clip.times[at] for at in frames))


def _step(family: Family, clip: Clip, most: float) -> tuple[int, int]:
    """How many frames are a step of time, and how many tokens it has."""
    first = some(clip, range(min(2, len(clip.frames))))
    grids, _ = family.film_layout(family.film([first], most, [len(clip.frames)]))
    return len(first.frames) // grids[0].t, grids[0].gh * grids[0].gw
