"""Which part of an image each visual token stands for. Pure functions, no model."""

import numpy as np

MAX_ASPECT = 200  # the Qwen resize refuses more


def check_aspect(width: int, height: int) -> None:
    """Raise ValueError for an image too elongated for the model's own resize (longer than 200 times its width)."""
    ratio = max(width, height) / min(width, height)
    if ratio > MAX_ASPECT:
        raise ValueError(
            f"The image has {width}×{height} pixels: one side is {ratio:.0f} times the other, and the model takes at "
            f"most {MAX_ASPECT}. Crop or pad it."
        )


def grid_rects(gh: int, gw: int, width: int, height: int) -> np.ndarray:
    """(gh·gw, 4) float32 rectangles x0, y0, x1, y1, row by row, that tile an image of width × height pixels.

    The model stretches the whole image onto its grid (no cropping, no border), so both axes scale on their own and
    the rectangles of a resized image are not exactly square in the original.
    """
    x = np.linspace(0, width, gw + 1, dtype=np.float32)
    y = np.linspace(0, height, gh + 1, dtype=np.float32)
    x0, y0 = np.meshgrid(x[:-1], y[:-1])
    x1, y1 = np.meshgrid(x[1:], y[1:])
    return np.stack([x0, y0, x1, y1], axis=-1).reshape(-1, 4)
