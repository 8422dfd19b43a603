"""Training data from scenes: batches of pictures with labels per visual token, and tokenised questions.

Every batch is a function of its step alone, so training resumes anywhere without a record of what was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from pruning.scenes.render import COLORS, DIGITS, SHAPES, Scene, render
from pruning.training.shipped import CELL

IGNORED: Final = -100
HEADS: Final = {"shape": len(SHAPES) + 1, "color": len(COLORS) + 1, "digit": len(DIGITS) + 1, "center": 2}
"""Dense labels and how many classes each has; 0 is "none"."""


class Steps(Dataset[Any]):
    """Batch number `i` of `make(i)`; a map-style data set, so that any step can be asked for."""

    def __init__(self, make: Any, steps: int) -> None:
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Any:
        return self.make(step)


def stream(make: Any, start: int, stop: int, workers: int = 1) -> Iterator[Any]:
    """Batches `start` to `stop` - 1 in order, made ahead of time in other processes."""
    loader = DataLoader(Steps(make, stop), batch_size=None, sampler=range(start, stop), num_workers=workers,
                        prefetch_factor=4 if workers else None)  # fmt: skip
    return iter(loader)


@cache
def _cells(height: int, width: int) -> NDArray[np.int64]:
    rows, columns = np.arange(height) // CELL, np.arange(width) // CELL
    return (rows[:, None] * (width // CELL) + columns[None]).ravel()


def dense_labels(scene: Scene) -> NDArray[np.int64]:
    """(N, 4) int64, raster order: shape, color, digit, center of the object under each visual token.

    A token belongs to the object that covers most of it, if that is an eighth of it; less is ignored, as are tokens
    that hold only a piece of a digit. The token at an object's centre always belongs to it.
    """
    height, width = scene.image.shape[:2]
    n, m = height // CELL * (width // CELL), len(scene.objects) + 1
    cells = _cells(height, width) * m
    area = CELL * CELL
    covered = np.bincount(cells + scene.owner.ravel(), minlength=n * m).reshape(n, m)[:, 1:]
    inked = np.bincount(cells + scene.ink.ravel(), minlength=n * m).reshape(n, m)[:, 1:]
    best = covered.argmax(1)
    share = covered.max(1) / area
    labels = np.zeros((n, 4), np.int64)
    shapes = np.array([SHAPES.index(o.shape) + 1 for o in scene.objects])
    colors = np.array([list(COLORS).index(o.color) + 1 for o in scene.objects])
    digits = np.array([DIGITS.index(o.digit) + 1 if o.digit else 0 for o in scene.objects])
    owned = share >= 0.125
    labels[owned, 0], labels[owned, 1] = shapes[best[owned]], colors[best[owned]]
    labels[(share > 0.02) & ~owned, :2] = IGNORED
    most = inked.argmax(1)
    read = (inked.max(1) >= 0.25 * area) | (inked.max(1) >= 0.5 * np.maximum(inked.sum(0)[most], 1))
    labels[inked.max(1) > 0, 2] = IGNORED
    labels[read, 2] = digits[most[read]]
    for i, item in enumerate(scene.objects):
        cell = int(item.y) // CELL * (width // CELL) + int(item.x) // CELL
        labels[cell, :2], labels[cell, 3] = (shapes[i], colors[i]), 1
    return labels


SIZES: Final = ((224, 224, 64), (336, 224, 42), (224, 224, 64), (336, 336, 28))
"""Height, width, pictures of the steps, in turn: about the same number of visual tokens each."""


def dense_batch(step: int, sizes: Sequence[tuple[int, int, int]] = SIZES) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (B, H, W, 3) uint8 and labels (B, N, 4) of one step."""
    height, width, count = sizes[step % len(sizes)]
    scenes = [render(step * 64 + i, height, width) for i in range(count)]
    images = torch.from_numpy(np.stack([s.image for s in scenes]))
    return images, torch.from_numpy(np.stack([dense_labels(s) for s in scenes]))
