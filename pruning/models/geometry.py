"""Which part of an image each visual token stands for. Pure functions, no model."""

from collections.abc import Sequence

import numpy as np

from pruning.tokens import Grid

MAX_ASPECT = 200  # the Qwen resize refuses more
Box = tuple[float, float, float, float]


def check_aspect(width: int, height: int) -> None:
    """Raise ValueError for an image too elongated for the model's own resize (longer than 200 times its width)."""
    ratio = max(width, height) / min(width, height)
    if ratio > MAX_ASPECT:
        raise ValueError(
            f"The image has {width}×{height} pixels: one side is {ratio:.0f} times the other, and the model takes at "
            f"most {MAX_ASPECT}. Crop or pad it."
        )


def token_rects(grids: Sequence[Grid], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """(N, 4) float32 rectangles x0, y0, x1, y1 of all tokens, each in pixels of the image that its grid shows.

    sizes: (width, height) of every image. The cells of a grid divide its box evenly, on each axis by itself; what lies
    in padding is cut off at the image's edge, so a token that sees padding alone has an empty rectangle on the edge.
    """
    return np.concatenate([_cells(grid, *sizes[grid.image]) for grid in grids])


def _cells(grid: Grid, width: int, height: int) -> np.ndarray:
    left, top, right, bottom = grid.box
    x = np.clip(np.linspace(left * width, right * width, grid.gw + 1), 0, width)
    y = np.clip(np.linspace(top * height, bottom * height, grid.gh + 1), 0, height)
    x0, y0 = np.meshgrid(x[:-1], y[:-1])
    x1, y1 = np.meshgrid(x[1:], y[1:])
    cells = np.stack([x0, y0, x1, y1], axis=-1).reshape(-1, 4).astype(np.float32)
    return np.tile(cells, (grid.t, 1))


def centre_crop_box(width: int, height: int, resized: tuple[int, int], crop: tuple[int, int]) -> Box:
    """What a centre crop of (width, height) `crop` keeps of an image that was resized to `resized`, in fractions."""
    (w, h), (cw, ch) = resized, crop
    x, y = (w - cw) // 2 / w, (h - ch) // 2 / h
    return (x, y, x + cw / w, y + ch / h)


def tile_boxes(rows: int, columns: int) -> list[Box]:
    """Boxes of equal tiles, row by row."""
    return [(c / columns, r / rows, (c + 1) / columns, (r + 1) / rows) for r in range(rows) for c in range(columns)]
