"""DToP's head for any supported model, in the loop of `fit`: what every visual token of a drawn scene shows.

arXiv 2308.01045, adapted (see `pruning.methods.dtop`): cross entropy of the classes alone, each token's own. The
language model takes no part in it, but for the held-out questions.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pruning.budget import keep_count
from pruning.method import make
from pruning.models import VLM
from pruning.models.trained import DToP, save
from pruning.training.fit import answered
from pruning.training.labels import CLASSES, IGNORED, token_classes
from pruning.training.pruners import PrunerPlan
from pruning.training.records import Record


class DToPTrainee:
    """Needs records that tell what they show; so far drawn scenes alone do."""

    name = DToP.name

    def __init__(self, vlm: VLM, plan: PrunerPlan) -> None:
        self.plan = plan

    def file(self) -> str:
        return f"{self.name}.safetensors"

    def new(self, vlm: VLM, generator: torch.Generator) -> DToP:
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            return DToP(int(vlm.config.get_text_config().hidden_size), len(CLASSES))

    def losses(self, vlm: VLM, module: DToP, record: Record, step: int) -> dict[str, tuple[float, Tensor]]:
        if record.shows is None:
            raise ValueError(
                f"{record.name} does not tell what each pixel shows, which {self.name} learns: leave --data out, for "
                "drawn scenes do"
            )
        try:
            encoded = vlm.encode([record.picture()])
        except ValueError as error:
            raise ValueError(f"{record.name}: {error}") from error
        labels = torch.from_numpy(token_classes(record.shows(), encoded.rects)).to(vlm.device)
        if bool((labels == IGNORED).all()):
            raise ValueError(f"{record.name}: none of its tokens lies on the picture, so they cannot be told apart")
        logits = module(encoded.tokens.features.to(vlm.device))
        return {"loss": (1.0, F.cross_entropy(logits, labels, ignore_index=IGNORED))}

    def save(self, module: DToP, vlm: VLM, out: Path) -> None:
        save(module, out, vlm.model, {**asdict(self.plan), "classes": CLASSES})

    def score(self, vlm: VLM, module: DToP, record: Record, budget: float) -> float:
        encoded = vlm.encode([record.picture()])
        with torch.no_grad():
            logits = module(encoded.tokens.features.to(vlm.device)).cpu()
        tokens, n = encoded.tokens.with_signals(dtop=logits), encoded.tokens.n
        return answered(vlm, encoded, record, make("dtop").select(tokens, keep_count(n, budget)).indices)
