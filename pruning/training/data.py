"""Batches of pictures with labels per visual token.

Every batch is a function of its step alone, so training resumes anywhere without a record of what was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pruning.scenes.worlds import WORLDS
from pruning.training.labels import labels

SHARES: Final = {"scenes": 0.2, "charts": 0.3, "documents": 0.3, "interfaces": 0.2}
"""Of each world's pictures in a batch, where all are trained."""
REUSED: Final = 3
"""Steps of one size that show the same charts: drawing one takes as long as five pictures of the other worlds."""


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


SIZES: Final = ((224, 224, 32), (336, 224, 21), (224, 224, 32), (336, 336, 14))
"""Height, width, pictures of the steps, in turn: about the same number of visual tokens each."""


def shared_out(count: int, worlds: Sequence[str]) -> list[str]:
    """The world of each of `count` pictures, by SHARES, every world at least once where there is room."""
    total = sum(SHARES[world] for world in worlds)
    ends = np.cumsum([SHARES[world] / total for world in worlds])
    return [worlds[int(np.searchsorted(ends, (i + 0.5) / count))] for i in range(count)]


@lru_cache(maxsize=512)
def _chart(seed: int, height: int, width: int) -> Any:
    return WORLDS["charts"].draw(seed, height, width)


def _picture(world: str, step: int, sizes: int, i: int, height: int, width: int) -> Any:
    """sizes: how many sizes take turns."""
    if world == "charts":
        again = step // sizes // REUSED * sizes + step % sizes
        return _chart(again * 64 + i, height, width)
    return WORLDS[world].draw(step * 64 + i, height, width)


def dense_batch(
    step: int, sizes: Sequence[tuple[int, int, int]] = SIZES, worlds: Sequence[str] = tuple(SHARES)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (B, H, W, 3) uint8 and labels (B, N, heads) of one step, the worlds by their shares."""
    height, width, count = sizes[step % len(sizes)]
    pictures = [
        _picture(world, step, len(sizes), i, height, width) for i, world in enumerate(shared_out(count, worlds))
    ]
    images = torch.from_numpy(np.stack([p.image for p in pictures]))
    return images, torch.from_numpy(np.stack([labels(p) for p in pictures]))
