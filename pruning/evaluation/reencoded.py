"""Another encoding of the same pictures beside the full one, as plain values under the names that the API and `--json`
share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pruning.encoding import FRAMES
from pruning.evaluation.timing import several

if TYPE_CHECKING:
    from pruning.encoding import Encoding
    from pruning.models import Encoded


@dataclass(frozen=True)
class CoarseGrid:
    """A grid of the other encoding: `rows` × `columns` cells over `box` of an image, in fractions of it."""

    image: int
    rows: int
    columns: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Tower:
    """What the vision tower is given and takes: patches, padding among them, and seconds with preprocessing."""

    full_patches: int
    kept_patches: int
    full_s: float
    kept_s: float


@dataclass(frozen=True)
class Reencoded:
    """How pictures were encoded in place of choosing among their tokens."""

    asked: Annotated[int, Field(description="K, the most visual tokens that were asked for")]
    reached: Annotated[int, Field(description="visual tokens of the other encoding, at most K")]
    note: Annotated[str, Field(description="why it is not K; empty where it is")]
    grids: Annotated[list[CoarseGrid], Field(description="its grids, one for each image or tile")]
    cells: Annotated[
        list[list[float]], Field(description="x0, y0, x1, y1 of each of its tokens, in pixels of the image it shows")
    ]
    taken: Annotated[
        list[list[int]],
        Field(description="of each picture and clip which of a clip's frames, from 0; empty where all are taken"),
    ]
    tower: Annotated[Tower, Field(description="the vision tower's work, which choosing among tokens cannot save")]


def reencoded(asked: Encoding, full: Encoded, kept: Encoded, again: Callable[[Encoding | None], Encoded]) -> Reencoded:
    """full, kept: both encodings, which `again` makes anew, to be timed; None asks for the full one."""
    grids = [CoarseGrid(grid.image, grid.gh, grid.gw, grid.box) for grid in kept.tokens.grids]
    seconds = [median(several(lambda each=each: again(each).encode_s)) for each in (None, asked)]  # type: ignore[misc]
    tower = Tower(full.patches, kept.patches, *seconds)
    allows = "whole frames allow" if asked.axis == FRAMES else "the grid allows"
    note = "" if kept.tokens.n == asked.most else f"{kept.tokens.n:,} of {asked.most:,}: the nearest that {allows}"
    taken = [list(frames) for frames in kept.taken]
    return Reencoded(asked.most, kept.tokens.n, note, grids, kept.rects.tolist(), taken, tower)
