"""How the pictures of some worlds look, and how far apart: what a checkpoint carries to tell what it does not know.

Pictures are taken as they are drawn and as people send them: scaled, and compressed as JPEG. Half of them become the
world's own, the others are held out and set the distance that all but one in two hundred of them keep.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruning.models.checkpoint import sources
from pruning.models.look import look
from pruning.models.world import HOLE, World, frame
from pruning.scenes.worlds import WORLDS

PICTURES: Final = 2400
"""Of each world, half of them held out."""
LEAST: Final = 20
FIRST: Final = 400_000_000
"""Seed of the first picture; the scenes that others train on, validate on or measure with begin below."""
SIDES: Final = tuple(range(224, 561, 28))
AXES: Final = 24
"""Directions in which pictures are compared."""
INSIDE: Final = 0.995
"""Share of held-out pictures that are inside."""
FLOOR: Final = 0.1
"""Least spread of an axis, as a share of the widest: in directions in which a world hardly varies, small things count,
but not without bound."""
NAMES: Final = {"scenes": "drawn scenes", "charts": "charts", "documents": "documents", "interfaces": "windows"}


def build(folder: Path, worlds: Sequence[str], pictures: int = PICTURES) -> World:
    """What the checkpoint in `folder`, trained on `worlds`, is to carry.

    Raises ValueError for too few pictures of a world; ModelError for what is no checkpoint's folder.
    """
    from transformers import AutoTokenizer

    if pictures < LEAST:
        raise ValueError(f"{pictures} pictures of each world are too few: at least {LEAST}")
    tokenizer = AutoTokenizer.from_pretrained(sources.checked(folder))
    looks = torch.from_numpy(np.stack([look(picture(world, i)) for world in worlds for i in range(pictures)]))
    own, held_out = looks[0::2], looks[1::2]
    center, axes = _axes(own)
    names = [NAMES[world] for world in worlds]
    name = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    near = World(name, center, axes, (own - center) @ axes, 1.0, _frames(tokenizer, worlds))
    return replace(near, farthest=float(near.distances(held_out).quantile(INSIDE)))


def picture(world: str, place: int, first: int = FIRST) -> Image.Image:
    """One picture of a world, as it is drawn or as somebody sends it; deterministic in `place`."""
    rng = np.random.default_rng([11, first, place])
    height, width = (int(side) for side in rng.choice(SIDES, 2))
    return sent(Image.fromarray(WORLDS[world].draw(first + place, height, width).image), rng)


def sent(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture as it arrives: two in five as they are, the others scaled, compressed as JPEG, or both."""
    if rng.random() < 0.4:
        return image
    way = rng.integers(3)
    if way != 0:
        share = float(rng.uniform(0.7, 2.0))
        method = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)[int(rng.integers(3))]
        image = image.resize((round(image.width * share), round(image.height * share)), method)
    if way != 1:
        written = io.BytesIO()
        image.save(written, "JPEG", quality=int(rng.integers(60, 96)))
        image = Image.open(written).convert("RGB")
    return image


def _axes(looks: Tensor) -> tuple[Tensor, Tensor]:
    """Center (NUMBERS,) and axes (NUMBERS, AXES) along which looks (n, NUMBERS) have unit spread."""
    center, spread = looks.mean(0), looks.std(0).clamp_min(1e-4)
    _, widths, directions = torch.linalg.svd((looks - center) / spread, full_matrices=False)
    count = min(AXES, len(widths))
    widths = (widths / len(looks) ** 0.5)[:count]
    axes = directions[:count].T / widths.clamp_min(FLOOR * float(widths[0])) / spread[:, None]
    return center, axes


def _frames(tokenizer: Any, worlds: Sequence[str], pictures: int = 60) -> frozenset[str]:
    """The frames of those questions of the worlds that hold spelled words."""
    found: set[str] = set()
    for name in worlds:
        for i in range(pictures):
            drawn = WORLDS[name].draw(FIRST + i, 336, 336)
            frames = (frame(tokenizer, question.text) for question in WORLDS[name].questions(drawn, 0, 4))
            found |= {framed for framed in frames if HOLE in framed.split()}
    return frozenset(found)
