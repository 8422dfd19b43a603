"""The shipped model's importance scorer, trained in its fast passes: many questions about cached pictures at once.

Differs from VisionSelector (see `objective`): the learning rate (theirs is for models a thousand times as wide), and
data: scenes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pruning.training import loop
from pruning.training.language import (
    CACHED,
    PER_PICTURE,
    ROUND,
    answer,
    answer_loss,
    ask_all,
    by_family,
    encode_pictures,
    pick_group,
    trained,
)
from pruning.training.objective import KEPT, anneal, binary_loss, new_scorer, soft_top_k


def train(folder: Path, steps: int, device: torch.device, rate: float = 1e-3) -> None:
    """Train the scorer for `steps` steps on the model in `folder`; resumes from scorer.pt."""
    model = trained(folder).to(device).requires_grad_(False)
    width = model.config.text_config.hidden_size
    scorer = new_scorer(width).to(device)
    # at an initialisation this small both factors' gradients vanish at a small rate; Adam's step size does not
    opts: list[torch.optim.Optimizer] = [torch.optim.AdamW(scorer.parameters(), lr=rate, weight_decay=0.0)]
    file = folder / "scorer.pt"
    start = loop.restore(file, {"scorer": scorer}, opts)
    progress = loop.Progress("scorer", start, steps)
    pictures: list[Any] = []
    for step in range(start, steps):
        if step % ROUND == 0 or not pictures:
            pictures = encode_pictures(model.model.visual, 700_000_000 + step // ROUND * 100_000, CACHED, device)
        rng = np.random.default_rng([4, step])
        group, picks = pick_group(pictures, rng)
        asked = ask_all([group.scenes[i] for i in picks], rng, PER_PICTURE)
        loop.set_rate(opts, loop.one_cycle(step, steps, rate, warmup=max(steps * 3 // 100, 1)))
        seen = group.visual[torch.from_numpy(picks)].float()
        scores = scorer(seen)
        k = int(KEPT * scores.shape[1])
        p = soft_top_k(scores, k)
        with torch.autocast(device.type, torch.bfloat16):
            logits = answer(model, seen * p[..., None], asked, group.gh, group.gw)
        loss, right = answer_loss(logits, asked)
        binary = binary_loss(p, scores, k)
        (loss + anneal(step, steps) * binary).backward()
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        progress.add(step, loss=loss.item(), binary=binary.item(), **by_family(right, asked.family))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            loop.save(file, step + 1, {"scorer": scorer}, opts)
