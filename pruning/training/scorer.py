"""The shipped model's importance scorer, trained in its fast passes: many questions about cached pictures at once.

Differs from VisionSelector (see `objective`): the learning rate (theirs is for models a thousand times as wide), and
data: the drawn worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pruning.training import loop
from pruning.training.asking import answer, answer_loss, ask_all
from pruning.training.data import SHARES
from pruning.training.language import ROUND, trained
from pruning.training.objective import KEPT, anneal, binary_loss, new_scorer, soft_top_k
from pruning.training.pictures import CACHED, PER_PICTURE, Pictures, encode_pictures, pick_groups


def train(
    folder: Path, steps: int, device: torch.device, rate: float = 1e-3, worlds: Sequence[str] = tuple(SHARES)
) -> None:
    """Train the scorer for `steps` steps on the model in `folder`; resumes from scorer.pt."""
    model = trained(folder).to(device).requires_grad_(False)
    width = model.config.text_config.hidden_size
    scorer = new_scorer(width).to(device)
    # at an initialisation this small both factors' gradients vanish at a small rate; Adam's step size does not
    opts: list[torch.optim.Optimizer] = [torch.optim.AdamW(scorer.parameters(), lr=rate, weight_decay=0.0)]
    file = folder / "scorer.pt"
    start = loop.restore(file, {"scorer": scorer}, opts)
    progress, keeper = loop.Progress("scorer", start, steps), loop.Keeper(file, {"scorer": scorer}, opts)
    pictures: list[Pictures] = []
    for step in range(start, steps):
        if step % ROUND == 0 or not pictures:
            first = 700_000_000 + step // ROUND * 100_000
            pictures = encode_pictures(model.model.visual, first, CACHED, worlds, device)
        rng = np.random.default_rng([4, step])
        loop.set_rate(opts, loop.one_cycle(step, steps, rate, warmup=max(steps * 3 // 100, 1)))
        values: dict[str, float] = {}
        for group, picks in pick_groups(pictures, rng):
            asked = ask_all([group.pictures[i] for i in picks], group.world, rng, PER_PICTURE).to(device)
            seen = group.visual[torch.from_numpy(picks)].float()
            scores = scorer(seen)
            k = int(KEPT * scores.shape[1])
            p = soft_top_k(scores, k)
            with loop.mixed(device):
                logits = answer(model, seen * p[..., None], asked, group.gh, group.gw)
            loss, right = answer_loss(logits, asked)
            binary = binary_loss(p, scores, k)
            ((loss + anneal(step, steps) * binary) / 2).backward()
            values |= {"loss": loss.item(), "binary": binary.item(), group.world.name: right.float().mean().item()}
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        progress.add(step, **values)
        keeper.step(step + 1, last=step + 1 == steps)
