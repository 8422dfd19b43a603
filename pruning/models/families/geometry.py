"""Which part of an image each visual token stands for. Pure functions, no model."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pruning.grids import Grid

MAX_ASPECT = 200  # the Qwen resize refuses more; where the short side is scaled up, more would fill the memory
Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


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
    in padding is cut off at the image's edge, so a token that sees padding alone has an empty rectangle on the edge;
    tokens that are not placed have empty ones in the corner.
    """
    return np.concatenate([_cells(grid, *sizes[grid.image]) for grid in grids])


def _cells(grid: Grid, width: int, height: int) -> np.ndarray:
    if not grid.placed:
        return np.zeros((grid.count, 4), np.float32)
    left, top, right, bottom = grid.box
    x = np.clip(np.linspace(left * width, right * width, grid.gw + 1), 0, width)
    y = np.clip(np.linspace(top * height, bottom * height, grid.gh + 1), 0, height)
    x0, y0 = np.meshgrid(x[:-1], y[:-1])
    x1, y1 = np.meshgrid(x[1:], y[1:])
    cells = np.stack([x0, y0, x1, y1], axis=-1).reshape(-1, 4).astype(np.float32)
    return np.tile(cells, (grid.t, 1))


def part_of(outer: Box, inner: Box) -> Box:
    """`inner`, told in fractions of `outer`, in fractions of what `outer` is told in."""
    x0, y0, x1, y1 = outer
    width, height = x1 - x0, y1 - y0
    return (x0 + inner[0] * width, y0 + inner[1] * height, x0 + inner[2] * width, y0 + inner[3] * height)


def square_box(width: int, height: int) -> Box:
    """The square that an image is padded to on both sides, in fractions of the image."""
    side = max(width, height)
    x, y = (side - width) // 2, (side - height) // 2
    return (-x / width, -y / height, (side - x) / width, (side - y) / height)


def shortest_edge(width: int, height: int, target: int) -> tuple[int, int]:
    """(width, height) after the shorter side was scaled to `target`; the longer is rounded down."""
    short, long = min(width, height), int(target * max(width, height) / min(width, height))
    return (target, long) if width == short else (long, target)


def centre_crop_box(resized: tuple[int, int], crop: tuple[int, int]) -> Box:
    """What a centre crop of (width, height) `crop` keeps of an image that was resized to `resized`, in fractions."""
    (w, h), (cw, ch) = resized, crop
    x, y = (w - cw) // 2 / w, (h - ch) // 2 / h
    return (x, y, x + cw / w, y + ch / h)


def tile_boxes(rows: int, columns: int) -> list[Box]:
    """Boxes of equal tiles, row by row."""
    return [(c / columns, r / rows, (c + 1) / columns, (r + 1) / rows) for r in range(rows) for c in range(columns)]


def arrangement(tiles: int, width: int, height: int) -> tuple[int, int]:
    """(rows, columns) of so many tiles that come closest to the image's width : height."""
    pairs = [(tiles // columns, columns) for columns in range(1, tiles + 1) if tiles % columns == 0]
    return min(pairs, key=lambda pair: abs(width / height - pair[1] / pair[0]))


def tiled_grids(image: int, tiles: tuple[int, int], side: int, start: int, seen: Box) -> list[Grid]:
    """The grids of an image cut into (rows, columns) equal tiles of side × side tokens, its thumbnail after them.

    seen: the part of a tile that its tokens cover. An image that is not cut, with (1, 1) tiles, is one whole grid.
    """
    if tiles == (1, 1):
        return [Grid(1, side, side, start, image, box=seen)]
    cells = [*(part_of(box, seen) for box in tile_boxes(*tiles)), seen]
    starts = [start + i * side**2 for i in range(len(cells))]
    grids = [Grid(1, side, side, at, image, "tile", box) for at, box in zip(starts, cells, strict=True)]
    return [*grids[:-1], replace(grids[-1], role="thumbnail")]
