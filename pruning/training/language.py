"""Stage 2: the language model on cached visual tokens of the frozen tower, many questions a picture.

`joint` (stage 3): both on fresh pictures, a short while. `sparse` (optional): the language model again, most of the
time with few of the visual tokens. Without it the model has never met a pruned prompt.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pruning.budget import keep_count
from pruning.scenes.render import HELD_OUT
from pruning.training import loop
from pruning.training.asking import answer, answer_loss, ask_all, by_family, place_loss
from pruning.training.data import SHARES
from pruning.training.labels import HEADS
from pruning.training.pictures import (
    CACHED,
    PER_PICTURE,
    PICTURES,
    VALIDATION,
    Pictures,
    encode_pictures,
    pick_groups,
)
from pruning.training.shipped import WIDTH, new_model
from pruning.training.vision import new_heads

log = logging.getLogger(__name__)

ROUND = 500
"""Steps on one set of cached pictures: after 1,500, charts of the set were answered 0.34 better than held-out ones."""
ALL = tuple(SHARES)


def evaluate(model: Any, pictures: Sequence[Pictures]) -> dict[str, dict[str, float]]:
    """Accuracy by world, of all its questions and by family, on encoded held-out pictures and fixed questions."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    rng = np.random.default_rng(1)
    with torch.no_grad(), loop.mixed(pictures[0].visual.device):
        for group in pictures:
            for i in range(0, len(group.pictures) - PICTURES + 1, PICTURES):
                asked = ask_all(group.pictures[i : i + PICTURES], group.world, rng, PER_PICTURE).to(group.visual.device)
                seen = group.visual[i : i + PICTURES]
                _, right = answer_loss(answer(model, seen, asked, group.gh, group.gw), asked)
                found.setdefault(group.world.name, []).append((right, asked.family))
    worlds = {group.world.name: group.world for group in pictures}
    accuracy = {}
    for name, parts in found.items():
        right, family = (torch.cat(part) for part in zip(*parts, strict=True))
        accuracy[name] = {"all": right.float().mean().item(), **by_family(right, family, worlds[name])}
    return accuracy


def _log_held_out(model: Any, pictures: Sequence[Pictures]) -> None:
    for world, values in evaluate(model, pictures).items():
        log.info("held out %s: %s", world, "  ".join(f"{name} {value:.3f}" for name, value in values.items()))


def train(folder: Path, steps: int, device: torch.device, rate: float = 2e-3, worlds: Sequence[str] = ALL) -> None:
    """Train the language model for `steps` steps on the tower in `folder`/vision.pt; resumes from language.pt."""
    model = new_model().to(device)
    visual, language = model.model.visual, model.model.language_model
    loop.restore(folder / "vision.pt", {"visual": visual})
    place = nn.Linear(WIDTH, 2).to(device)
    parts: dict[str, nn.Module] = {"language": language, "place": place}
    opts = loop.optimizers([language, nn.ModuleDict({"head": place})], rate)
    file = folder / "language.pt"
    start = loop.restore(file, parts, opts)
    held_out = encode_pictures(visual, HELD_OUT, VALIDATION, worlds, device)
    progress, keeper = loop.Progress("language", start, steps), loop.Keeper(file, parts, opts)
    pictures: list[Pictures] = []
    for step in range(start, steps):
        if step % ROUND == 0 or not pictures:
            pictures = []  # gone before the next ones come: both at once are more than 20 GB
            pictures = encode_pictures(visual, step // ROUND * 100_000, CACHED, worlds, device)
        rng = np.random.default_rng([2, step])
        loop.set_rate(opts, loop.one_cycle(step, steps, rate))
        values: dict[str, float] = {}
        for group, picks in pick_groups(pictures, rng):
            asked = ask_all([group.pictures[i] for i in picks], group.world, rng, PER_PICTURE).to(device)
            seen = group.visual[torch.from_numpy(picks)]
            with loop.mixed(device):
                logits = answer(model, seen, asked, group.gh, group.gw)
                placed = place_loss(model, place, seen[:4], group.gh, group.gw)
            loss, right = answer_loss(logits, asked)
            ((loss + placed) / 2).backward()
            values |= {"loss": loss.item(), "place": placed.item(), group.world.name: right.float().mean().item()}
        loop.update(parts.values(), opts)
        progress.add(step, **values)
        keeper.step(step + 1, last=step + 1 == steps)
        if (step + 1) % ROUND == 0 or step + 1 == steps:
            _log_held_out(model, held_out)


def sparse(folder: Path, steps: int, device: torch.device, rate: float = 4e-4, worlds: Sequence[str] = ALL) -> None:
    """Go on for `steps` steps, two thirds of them with few visual tokens; resumes from sparse.pt in `folder`.

    A language model that always saw all ground counts objects by their share of it, and miscounts once ground is
    pruned. Kept are mostly tokens of things, as the tower's dense read-outs tell them, with noise.
    """
    model, heads = trained(folder).to(device), new_heads().to(device)
    loop.restore(folder / "vision.pt", {"heads": heads})
    visual, language = model.model.visual, model.model.language_model
    opts = loop.optimizers([language], rate)
    file = folder / "sparse.pt"
    parts: dict[str, nn.Module] = {"language": language}
    start = loop.restore(file, parts, opts)
    held_out = encode_pictures(visual, HELD_OUT, VALIDATION, worlds, device)
    pictures = encode_pictures(visual, 300_000_000, CACHED, worlds, device)
    progress, keeper = loop.Progress("sparse", start, steps), loop.Keeper(file, parts, opts)
    for step in range(start, steps):
        rng = np.random.default_rng([5, step])
        loop.set_rate(opts, loop.one_cycle(step, steps, rate))
        values: dict[str, float] = {}
        for group, picks in pick_groups(pictures, rng):
            asked = ask_all([group.pictures[i] for i in picks], group.world, rng, PER_PICTURE).to(device)
            seen = group.visual[torch.from_numpy(picks)]
            kept = None if step % 3 == 0 else mostly_things(heads, seen, 0.25 if step % 3 == 1 else 0.1, step)
            with loop.mixed(device):
                logits = answer(model, seen, asked, group.gh, group.gw, kept)
            loss, right = answer_loss(logits, asked)
            (loss / 2).backward()
            values |= {"loss": loss.item(), group.world.name: right.float().mean().item()}
        loop.update(parts.values(), opts)
        progress.add(step, **values)
        keeper.step(step + 1, last=step + 1 == steps)
    _log_held_out(model, held_out)


def mostly_things(heads: nn.Module, visual: Tensor, share: float, seed: int) -> Tensor:
    """(B, K) int64 ascending: a `share` of the tokens, things, their centres and writing first, with noise."""
    with torch.no_grad():
        read = heads(visual.float()).split(list(HEADS.values()), -1)
        read = {name: part.softmax(-1) for name, part in zip(HEADS, read, strict=True)}
    noise = torch.rand(visual.shape[:2], generator=torch.Generator().manual_seed(seed)).to(visual.device)
    score = 2 * read["center"][..., 1] + 0.8 * noise
    for name in ("shape", "digit", "role", "mark"):
        score = score + 1 - read[name][..., 0]
    return score.topk(keep_count(visual.shape[1], share), dim=1).indices.sort(1).values


def trained(folder: Path) -> Any:
    """The model of the latest stage in `folder`, float32. Raises FileNotFoundError when a stage is missing."""
    model = new_model()
    visual, language = model.model.visual, model.model.language_model
    done = loop.restore(folder / "vision.pt", {"visual": visual})
    if not (done and loop.restore(folder / "language.pt", {"language": language})):
        raise FileNotFoundError(f"{folder} has no trained model: run `python -m pruning.training model` first")
    loop.restore(folder / "joint.pt", {"visual": visual, "language": language})
    loop.restore(folder / "sparse.pt", {"language": language})
    return model
