"""Where tokens lie: the grids of one sample, and the parts that a budget may be for.

Shapes as in `pruning.tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Role = Literal["whole", "tile", "thumbnail"]
Scope = Literal["sample", "image", "tile", "frame", "novelty"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Grid:
    """A rectangle of tokens: an image, a video, or one tile of an image. `t` frames of `gh` x `gw`, in raster order.

    start: index of its first token among the N
    image: index of the image it shows, among those of the sample
    role:  "whole" image; or, for models that cut an image up, one "tile" of it, or the "thumbnail" beside the tiles
    box:   (x0, y0, x1, y1) the part of the image that the grid covers, in fractions of its width and height; beyond
           0..1 where the model pads the image
    placed: whether its tokens stand for cells of that rectangle; else each has seen the whole picture, or where they
           lie is not known, and they are one row of `gw`
    """

    t: int
    gh: int
    gw: int
    start: int = 0
    image: int = 0
    role: Role = "whole"
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    placed: bool = True

    def __post_init__(self) -> None:
        if min(self.t, self.gh, self.gw) < 1 or self.start < 0 or self.image < 0:
            raise ValueError(f"{self} is not a grid: t, gh, gw must be at least 1, start and image at least 0")
        if not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"{self} is not a grid: its box must have x0 < x1 and y0 < y1")

    @property
    def count(self) -> int:
        return self.t * self.gh * self.gw

    @property
    def stop(self) -> int:
        return self.start + self.count


def parts(grids: Sequence[Grid], per: Scope) -> list[tuple[Grid, ...]]:
    """The grids of the sample together, of each image or clip, one by one, or those of each frame of a clip, which are
    the parts that a budget by novelty is shared out over too. Raises ValueError for an unknown `per`.

    >>> two = [Grid(1, 2, 3), Grid(1, 1, 4, start=6, image=1)]
    >>> [[grid.count for grid in part] for part in parts(two, "sample")]
    [[6, 4]]
    >>> [[grid.count for grid in part] for part in parts(two, "image")]
    [[6], [4]]
    >>> [[grid.start for grid in part] for part in parts([Grid(3, 1, 2)], "frame")]
    [[0], [2], [4]]
    """
    if per not in SCOPES:
        raise ValueError(f"the budget cannot be per {per!r}: it must be one of {', '.join(SCOPES)}")
    if per == "sample":
        return [tuple(grids)]
    if per == "tile":
        return [(grid,) for grid in grids]
    if per in ("frame", "novelty"):
        return [
            (replace(grid, t=1, start=grid.start + step * grid.gh * grid.gw),)
            for grid in grids
            for step in range(grid.t)
        ]
    return [tuple(group) for _, group in groupby(grids, lambda grid: grid.image)]


def place_of(grids: Sequence[Grid], token: int) -> tuple[Grid, int, int]:
    """(grid, row, column) of a token. Raises ValueError for an index outside 0..N-1.

    >>> grid, row, column = place_of([Grid(1, 2, 3), Grid(1, 1, 4, start=6, image=1)], 5)
    >>> grid.image, row, column
    (0, 1, 2)
    """
    for grid in grids:
        if grid.start <= token < grid.stop:
            row, column = divmod((token - grid.start) % (grid.gh * grid.gw), grid.gw)
            return grid, row, column
    raise ValueError(f"there is no token {token}: it must be a whole number from 0 to {grids[-1].stop - 1}")


def rows_and_columns(grids: Sequence[Grid]) -> Tensor:
    """(N, 2) float32: row and column of every token in its grid, from 0, frame by frame.

    >>> rows_and_columns([Grid(1, 1, 2), Grid(2, 1, 1, start=2, image=1)]).tolist()
    [[0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    return torch.cat([
        torch.cartesian_prod(torch.arange(grid.gh), torch.arange(grid.gw)).repeat(grid.t, 1) for grid in grids
    ]).float()  # fmt: skip


def _centres(grid: Grid) -> Tensor:
    """(count, 2) float64 x, y of the tokens' centres in fractions of the image."""
    x0, y0, x1, y1 = grid.box
    x = x0 + (torch.arange(grid.gw, dtype=torch.float64) + 0.5) / grid.gw * (x1 - x0)
    y = y0 + (torch.arange(grid.gh, dtype=torch.float64) + 0.5) / grid.gh * (y1 - y0)
    return torch.cartesian_prod(y, x).flip(1).repeat(grid.t, 1)


def covered(thumbnail: Grid, tile: Grid) -> Tensor:
    """(count,) bool: the thumbnail's tokens whose centres lie in the tile.

    >>> left = Grid(1, 4, 4, role="tile", box=(0.0, 0.0, 0.5, 1.0))
    >>> covered(Grid(1, 1, 4, role="thumbnail"), left).tolist()
    [True, True, False, False]
    """
    low, high = torch.tensor(tile.box, dtype=torch.float64).split(2)
    centres = _centres(thumbnail)
    return ((centres >= low) & (centres < high)).all(dim=1)


def resampled(values: Tensor, thumbnail: Grid, tile: Grid) -> Tensor:
    """values (count of the thumbnail,) -> (count of the tile,), bilinear, constant beyond the outermost centres.

    >>> left = Grid(1, 1, 2, role="tile", box=(0.0, 0.0, 0.5, 1.0))
    >>> resampled(torch.tensor([0.0, 1.0]), Grid(1, 1, 2, role="thumbnail"), left).tolist()
    [0.0, 0.25]
    """
    low, high = torch.tensor(thumbnail.box, dtype=torch.float64).split(2)
    places = ((_centres(tile) - low) / (high - low) * 2 - 1).float().to(values.device)
    picture = values.view(-1, thumbnail.gh, thumbnail.gw).mean(dim=0)[None, None]
    return grid_sample(picture, places[None, None], padding_mode="border", align_corners=False).flatten()
