"""How the tiles of an image lie on its thumbnail."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from pruning.grids import Grid


def _centres(grid: Grid) -> Tensor:
    """(count, 2) float64 x, y of the tokens' centres in fractions of the image."""
    x0, y0, x1, y1 = grid.box
    x = x0 + (torch.arange(grid.gw, dtype=torch.float64) + 0.5) / grid.gw * (x1 - x0)
    y = y0 + (torch.arange(grid.gh, dtype=torch.float64) + 0.5) / grid.gh * (y1 - y0)
    return torch.cartesian_prod(y, x).flip(1).repeat(grid.t, 1)


def covered(thumbnail: Grid, tile: Grid) -> Tensor:
    """(count,) bool: the thumbnail's tokens whose centres lie in the tile."""
    low, high = torch.tensor(tile.box, dtype=torch.float64).split(2)
    centres = _centres(thumbnail)
    return ((centres >= low) & (centres < high)).all(dim=1)


def resampled(values: Tensor, thumbnail: Grid, tile: Grid) -> Tensor:
    """values (count of the thumbnail,) -> (count of the tile,), bilinear, constant beyond the outermost centres."""
    low, high = torch.tensor(thumbnail.box, dtype=torch.float64).split(2)
    places = ((_centres(tile) - low) / (high - low) * 2 - 1).float().to(values.device)
    picture = values.view(-1, thumbnail.gh, thumbnail.gw).mean(dim=0)[None, None]
    return grid_sample(picture, places[None, None], padding_mode="border", align_corners=False).flatten()
