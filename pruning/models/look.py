"""What a picture is like, in some numbers: brightness, contrast, edges, grain and colour of its patches, pooled.

What a model's tower makes of a picture cannot serve: a small tower that was trained on drawn pictures sees in a
photograph hardly more than plain ground, and its features are those of ground. These numbers are taken from the pixels,
so that nothing is lost before it is compared.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PATCH = 14
AREA = 448 * 448
"""Pixels to which larger pictures are scaled down."""
LEAST = 4 * PATCH
"""Pixels of a side to which smaller ones are scaled up."""
QUANTILES = (0.02, 0.1, 0.5, 0.9, 0.98)
NUMBERS = 105
"""How many: fifteen per patch; mean, spread and five quantiles of each over the patches."""


def look(picture: Image.Image) -> NDArray[np.float32]:
    """(NUMBERS,) float32 of an RGB picture of any size."""
    patches = _patches(np.asarray(_scaled(picture), np.float32) / np.float32(255))  # (P, 14, 14, 3)
    grey = patches.mean(3)
    across, down = np.abs(np.diff(grey, axis=2)), np.abs(np.diff(grey, axis=1))
    inner = grey[:, 1:-1, 1:-1]
    grain = np.abs(4 * inner - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:])
    red, blue = patches[..., 0] - patches[..., 1], patches[..., 1] - patches[..., 2]
    numbers = [_mean(grey), _spread(grey), _mean(across), _mean(down), _mean(grain), grain.max((1, 2)),
               across.max((1, 2)), _middle(grain), _middle(across), _mean(red), _mean(blue), _spread(red),
               _spread(blue), grey.min((1, 2)), grey.max((1, 2))]  # fmt: skip
    table = np.stack(numbers, 1)  # (P, 15)
    pooled = [table.mean(0), table.std(0), *np.quantile(table, QUANTILES, axis=0)]
    return np.concatenate(pooled).astype(np.float32)


def _scaled(picture: Image.Image) -> Image.Image:
    """Sides that are whole patches, at most AREA pixels in all and at least LEAST a side."""
    share = min(1.0, math.sqrt(AREA / (picture.width * picture.height)))
    size = [max(LEAST, int(side * share) // PATCH * PATCH) for side in picture.size]
    kept = picture.size
    if share == 1.0:  # what does not fill a patch is cut off: scaling would smooth the grain
        kept = min(picture.width, size[0]), min(picture.height, size[1])
    box = (0, 0, *kept)
    return picture.convert("RGB").resize((size[0], size[1]), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def _patches(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width, _ = pixels.shape
    cut = pixels.reshape(height // PATCH, PATCH, width // PATCH, PATCH, 3)
    return cut.transpose(0, 2, 1, 3, 4).reshape(-1, PATCH, PATCH, 3)


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.mean((1, 2))


def _spread(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.std((1, 2))


def _middle(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.median(values, (1, 2))
