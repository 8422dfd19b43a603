"""Pictures that went through the tower once and are asked about many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning.scenes.render import Scene
from pruning.scenes.worlds import WORLDS, World
from pruning.training import loop, tower
from pruning.training.data import stream
from pruning.training.shipped import CELL

PICTURES: Final = 12
"""Pictures of one world that are asked about at once."""
PER_PICTURE: Final = 12
"""Questions about a picture in one step."""
CACHED: Final = ((224, 224, 360), (336, 224, 180), (224, 336, 180), (336, 336, 480), (448, 448, 120))
"""Height, width and number of each world's pictures of a round."""
VALIDATION: Final = ((224, 224, 24), (336, 336, 48), (448, 448, 24))
"""Height, width and number of each world's held-out pictures that progress is measured on."""


def without_pixels(picture: Any) -> Any:
    """The picture as the questions need it: its size stays, its pixels go."""
    height, width = picture.image.shape[:2]
    nothing = np.empty((height, width, 0), np.uint8)
    if isinstance(picture, Scene):
        return Scene(picture.seed, nothing, picture.objects, nothing, nothing)
    return replace(picture, image=nothing, writings=(), marks=())


@dataclass(frozen=True, eq=False)
class Pictures:
    """Encoded pictures of one world and size: `visual` (n, N, D) bfloat16, and the pictures without pixels."""

    visual: Tensor
    pictures: tuple[Any, ...]
    world: World
    gh: int
    gw: int


class _Jobs:
    """Picklable: job number -> pixels of PICTURES pictures, and the pictures."""

    def __init__(self, world: str, jobs: list[int], height: int, width: int) -> None:
        self.world, self.jobs, self.height, self.width = world, jobs, height, width

    def __call__(self, i: int) -> tuple[Tensor, list[Any]]:
        drawn = [WORLDS[self.world].draw(self.jobs[i] + j, self.height, self.width) for j in range(PICTURES)]
        return torch.from_numpy(np.stack([p.image for p in drawn])), [without_pixels(p) for p in drawn]


def encode_pictures(
    visual: Any, first: int, sizes: Sequence[tuple[int, int, int]], worlds: Sequence[str], device: torch.device
) -> list[Pictures]:
    """Pictures of each world and size from seed `first` on, through the tower, without gradients."""
    found = []
    for world in worlds:
        for height, width, count in sizes:
            gh, gw = height // CELL, width // CELL
            jobs = _Jobs(world, list(range(first, first + count, PICTURES)), height, width)
            tokens: list[Tensor] = []
            shown: list[Any] = []
            for images, drawn in stream(jobs, 0, len(jobs.jobs)):
                with torch.no_grad(), loop.mixed(device):
                    tokens.append(tower.encode(visual, tower.windows(images.to(device)), gh, gw).bfloat16())
                shown += drawn
            found.append(Pictures(torch.cat(tokens), tuple(shown), WORLDS[world], gh, gw))
    return found


def pick_groups(
    pictures: Sequence[Pictures], rng: np.random.Generator, groups: int = 2
) -> list[tuple[Pictures, NDArray[np.int64]]]:
    """`groups` times PICTURES of one world and size, worlds in random turns, sizes as often as there are pictures."""
    names = sorted({group.world.name for group in pictures})
    turns = [names[int(i)] for _ in range(groups) for i in rng.permutation(len(names))][:groups]
    picked = []
    for name in turns:
        of = [group for group in pictures if group.world.name == name]
        counts = np.array([len(group.pictures) for group in of], float)
        group = of[int(rng.choice(len(of), p=counts / counts.sum()))]
        picked.append((group, rng.choice(len(group.pictures), PICTURES, replace=False)))
    return picked
