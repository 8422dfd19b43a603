"""Stage 3: tower and language model together, on fresh pictures, for a short while at a small rate.

The dense labels and the patch's look go on as targets, else the tower would give up what no question asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from pruning.scenes.worlds import WORLDS
from pruning.training import loop, tower
from pruning.training.asking import answer, answer_loss, ask_all
from pruning.training.data import SHARES, stream
from pruning.training.labels import labels
from pruning.training.pictures import PER_PICTURE, PICTURES, without_pixels
from pruning.training.shipped import CELL, new_model
from pruning.training.vision import dense_loss, look_loss, new_heads

SIZES: Final = ((336, 336), (224, 224), (224, 336), (336, 336), (336, 224), (448, 448))
FIRST: Final = 500_000_000
"""Seeds from here on are those of this stage."""
DENSE_WEIGHT: Final = 0.1


def joint_batch(step: int, worlds: Sequence[str]) -> tuple[str, torch.Tensor, torch.Tensor, list[Any]]:
    """World, pixels (B, H, W, 3) uint8, labels (B, N, heads) and pictures without pixels of one step."""
    world = worlds[step % len(worlds)]
    height, width = SIZES[step // len(worlds) % len(SIZES)]
    drawn = [WORLDS[world].draw(FIRST + step * PICTURES + i, height, width) for i in range(PICTURES)]
    dense = torch.from_numpy(np.stack([labels(p) for p in drawn]))
    return world, torch.from_numpy(np.stack([p.image for p in drawn])), dense, [without_pixels(p) for p in drawn]


def train(
    folder: Path, steps: int, device: torch.device, rate: float = 3e-4, worlds: Sequence[str] = tuple(SHARES)
) -> None:
    """Train both for `steps` steps, from vision.pt and language.pt in `folder`; resumes from joint.pt."""
    model, heads = new_model().to(device), new_heads().to(device)
    visual, language = model.model.visual, model.model.language_model
    loop.restore(folder / "vision.pt", {"visual": visual, "heads": heads})
    loop.restore(folder / "language.pt", {"language": language})
    opts = loop.optimizers([visual, language, nn.ModuleDict({"head": heads})], rate)
    parts: dict[str, nn.Module] = {"visual": visual, "language": language, "heads": heads}
    file = folder / "joint.pt"
    start = loop.restore(file, parts, opts)
    progress, keeper = loop.Progress("joint", start, steps), loop.Keeper(file, parts, opts)
    make = partial(joint_batch, worlds=tuple(worlds))
    for step, (world, images, dense, drawn) in enumerate(stream(make, start, steps), start):
        loop.set_rate(opts, loop.one_cycle(step, steps, rate))
        gh, gw = images.shape[1] // CELL, images.shape[2] // CELL
        asked = ask_all(drawn, WORLDS[world], np.random.default_rng([6, step]), PER_PICTURE).to(device)
        images = images.to(device)
        with loop.mixed(device):
            seen = tower.encode(visual, tower.windows(images), gh, gw)
            read = heads(seen)
            logits = answer(model, seen, asked, gh, gw)
        loss, right = answer_loss(logits, asked)
        kept, _ = dense_loss(read, dense.to(device))
        look = look_loss(seen, images)
        (loss + DENSE_WEIGHT * kept + look).backward()
        loop.update(parts.values(), opts)
        values = {"loss": loss.item(), "dense": kept.item(), "look": look.item(), world: right.float().mean().item()}
        progress.add(step, **values)
        keeper.step(step + 1, last=step + 1 == steps)
