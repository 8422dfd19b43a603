"""How much the pixels under a token vary: a signal that needs no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pruning.grids import Grid


def patch_entropy(images: Sequence[Image.Image], grids: Sequence[Grid], rects: np.ndarray) -> Tensor:
    """(N,) float32 grey-level entropy in bits of the pixels under each rectangle, 256 levels, equal weights of R, G, B.

    rects: (N, 4) in pixels of the image that the token's grid shows. An empty rectangle has entropy 0.
    """
    grey = [_grey(np.asarray(image)) for image in images]
    owners = np.concatenate([np.full(grid.count, grid.image) for grid in grids])
    entropies = np.zeros(len(rects), np.float32)
    for i, (x0, y0, x1, y1) in enumerate(np.round(rects).astype(int)):
        counts = np.bincount(grey[owners[i]][y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].ravel(), minlength=256)
        shares = counts[counts > 0] / max(counts.sum(), 1)
        entropies[i] = -(shares * np.log2(shares)).sum()
    return torch.from_numpy(entropies)


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W), the rounded mean of the colours; in whole numbers, as an image may have millions of pixels."""
    total = rgb[..., 0].astype(np.uint16)
    total += rgb[..., 1]
    total += rgb[..., 2]
    total += 1
    total //= 3
    return total.astype(np.uint8)
