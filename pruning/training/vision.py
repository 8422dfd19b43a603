"""Stage 1: the vision tower alone, on dense labels per visual token; the heads are thrown away afterwards.

Each step costs a fraction of a joint one and every visual token is a training example, so shapes, colours, characters
and what they belong to are there before the language model has to bind them.

Tokens also have to carry what their patch looks like, asked for or not. A tower trained on labels alone maps all ground
to one feature; that of a general-purpose model does not, and only then does diversity have clutter to fall for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.scenes.render import HELD_OUT
from pruning.scenes.worlds import WORLDS
from pruning.training import loop, tower
from pruning.training.data import SHARES, dense_batch, stream
from pruning.training.labels import HEADS, IGNORED, labels
from pruning.training.shipped import CELL, WIDTH, new_model

log = logging.getLogger(__name__)

NONE_WEIGHT: Final = {"shape": 0.3, "color": 0.3, "digit": 0.15, "center": 0.25}
"""Weight of class 0, where it is not OTHER_NONE: most visual tokens show ground."""
OTHER_NONE: Final = 0.2
HEAD_WEIGHT: Final = {"glyph2": 0.7, "glyph3": 0.4, "under": 0.5, "value0": 0.7, "value1": 0.6, "value2": 0.4,
                      "value3": 0.2}  # fmt: skip
"""Weight of a label's loss, where it is not 1."""
HELD_OUT_PICTURES: Final = 16
"""Of each world, that progress is measured on."""
EVERY: Final = 500
"""Steps between two such measurements."""


def new_heads() -> nn.Linear:
    """One linear read-out per label, side by side."""
    return nn.Linear(WIDTH, sum(HEADS.values()))


LOOK = 48
"""Numbers that describe a patch's look: 4 x 4 cells of 7 px, RGB."""
LOOK_GAIN = 1.5
"""Length of the look in the feature, relative to that of the normalised pixels."""


@cache
def _look_basis(width: int) -> Tensor:
    """(width, LOOK), orthonormal, fixed: a trained read-out would let features keep the look as small as they like."""
    return torch.linalg.qr(torch.randn(width, LOOK, generator=torch.Generator().manual_seed(5))).Q


def look_loss(tokens: Tensor, images: Tensor) -> Tensor:
    """Mean squared error of the look that the features (B, N, D) carry against the pictures (B, H, W, 3) uint8."""
    b, height, width, _ = images.shape
    pixels = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    cells = F.avg_pool2d(pixels, 7).view(b, 3, height // CELL, 4, width // CELL, 4)
    looks = cells.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, LOOK)
    return F.mse_loss(tokens.float() @ _look_basis(tokens.shape[-1]).to(tokens.device), LOOK_GAIN * looks)


def dense_loss(read: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Sum of the labels' cross entropies, and the accuracy of each on tokens where it is not "none".

    read: (B, N, classes of all labels); labels: (B, N, labels).
    """
    loss = read.new_zeros(())
    right: dict[str, float] = {}
    for i, (part, (name, classes)) in enumerate(zip(read.split(list(HEADS.values()), -1), HEADS.items(), strict=True)):
        label = labels[..., i].flatten()
        asked = label != IGNORED
        if not asked.any():
            continue
        weight = torch.ones(classes, device=read.device)
        weight[0] = NONE_WEIGHT.get(name, OTHER_NONE)
        flat, label = part.flatten(0, 1)[asked].float(), label[asked]
        loss = loss + HEAD_WEIGHT.get(name, 1.0) * F.cross_entropy(flat, label, weight)
        there = label > 0
        right[name] = (flat[there].argmax(-1) == label[there]).float().mean().item()
    return loss, right


def evaluate(visual: nn.Module, heads: nn.Module, worlds: Sequence[str]) -> dict[str, dict[str, float]]:
    """Accuracy of each label on the tokens of held-out pictures where it is not "none", by world."""
    side = 336
    device = next(heads.parameters()).device
    found = {}
    for world in worlds:
        drawn = [WORLDS[world].draw(HELD_OUT + i, side, side) for i in range(HELD_OUT_PICTURES)]
        images = torch.from_numpy(np.stack([p.image for p in drawn])).to(device)
        dense = torch.from_numpy(np.stack([labels(p) for p in drawn])).to(device)
        with torch.no_grad(), loop.mixed(device):
            read = heads(tower.encode(visual, tower.windows(images), side // CELL, side // CELL))
        _, right = dense_loss(read, dense)
        found[world] = {name: share for name, share in right.items() if share == share}
    return found


def train(
    folder: Path, steps: int, device: torch.device, rate: float = 3e-3, worlds: Sequence[str] = tuple(SHARES)
) -> None:
    """Train the tower for `steps` steps; resumes from `folder`/vision.pt."""
    model = new_model().to(device)
    visual, heads = model.model.visual, new_heads().to(device)
    opts = loop.optimizers([visual, nn.ModuleDict({"head": heads})], rate)
    parts: dict[str, nn.Module] = {"visual": visual, "heads": heads}
    file = folder / "vision.pt"
    start = loop.restore(file, parts, opts)
    encode = torch.compile(tower.encode, dynamic=False)
    progress = loop.Progress("vision", start, steps)
    keeper = loop.Keeper(file, parts, opts)
    make = partial(dense_batch, worlds=tuple(worlds))
    for step, (images, dense) in enumerate(stream(make, start, steps), start):
        loop.set_rate(opts, loop.one_cycle(step, steps, rate))
        images, dense = images.to(device), dense.to(device)
        _, height, width, _ = images.shape
        with loop.mixed(device):
            tokens = encode(visual, tower.windows(images), height // CELL, width // CELL)
            read = heads(tokens)
        loss, right = dense_loss(read, dense)
        look = look_loss(tokens, images)
        (loss + look).backward()
        loop.update(parts.values(), opts)
        progress.add(step, loss=loss.item(), look=look.item(), **right)
        keeper.step(step + 1, last=step + 1 == steps)
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            for world, found in evaluate(visual, heads, worlds).items():
                log.info("held out %s: %s", world, "  ".join(f"{name} {share:.3f}" for name, share in found.items()))
