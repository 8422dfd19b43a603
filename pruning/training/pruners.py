"""CoViPAL's module for any supported model, in the loop of `fit`: first a deeper layer's attention, then the answers.

arXiv 2508.17243. Guidance: what layer l_g gives each visual token, summed over heads and over what stands behind the
picture, is the label; squared error. End to end: the answers' cross entropy while every visual key bears the logarithm
of its probability to stay; the model is frozen. Differs: labels are divided by their mean, so that the error does not
vanish with N; the probabilities are a soft top-k, so that they add up to the budget; both are guesses where the paper
is silent, as are the layer (more than half-way up) and the share of steps of each stage.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pruning.models import VLM, Encoded
from pruning.models.trained import HEADS, ATPLLaVA, CoViPAL, DToP, QTSplus, save
from pruning.training.fit import Plan, answered, best, forced, read
from pruning.training.objective import anneal, binary_loss, soft_top_k
from pruning.training.records import Record

METHODS = (CoViPAL.name, DToP.name, ATPLLaVA.name, QTSplus.name)
LAYER = 16 / 28  # of the language model, whose attention is learned from
LEAST = 1e-6  # probability to stay


@dataclass(frozen=True)
class PrunerPlan(Plan):
    """guided: share of the steps that learn from attention alone. layer: whose attention; None: by LAYER."""

    method: str = CoViPAL.name
    guided: float = 0.4
    layer: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r} has no module to train: it must be one of {', '.join(METHODS)}")
        if not 0 <= self.guided <= 1:
            raise ValueError(f"guided {self.guided}: it must be a share of the steps from 0 to 1, such as 0.4")


class CoViPALTrainee:
    """Of a model that was loaded with eager attention, which alone tells its weights."""

    name = CoViPAL.name

    def __init__(self, vlm: VLM, plan: PrunerPlan) -> None:
        """Raises ValueError for a layer that the model does not have."""
        self.plan, self.guided = plan, round(plan.guided * plan.steps)
        self.layer = round(LAYER * vlm.layers) if plan.layer is None else plan.layer
        if not 0 <= self.layer < vlm.layers:
            raise ValueError(f"layer {self.layer}: {vlm.title} has layers 0 to {vlm.layers - 1}")

    def file(self) -> str:
        return f"{self.name}.safetensors"

    def new(self, vlm: VLM, generator: torch.Generator) -> CoViPAL:
        dim = int(vlm.config.get_text_config().hidden_size)
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            return CoViPAL(dim, max(HEADS, dim // 4 // HEADS * HEADS))

    def losses(self, vlm: VLM, module: CoViPAL, record: Record, step: int) -> dict[str, tuple[float, Tensor]]:
        encoded, ids, positions, answer = read(vlm, record)
        scores = module(encoded.tokens.features.to(vlm.device), words_of(vlm, encoded, record))
        places = visual_places(vlm, encoded, ids)
        rows = encoded.rows(None)
        if step < self.guided:
            with torch.no_grad():
                told = forced(vlm, ids, positions, rows, 1, output_attentions=True).attentions[self.layer][0]
            return {"guidance": (1.0, F.mse_loss(scores, guidance(told, places)))}
        n = encoded.tokens.n
        k = min(max(1, int(self.plan.budget * n)), n - 1)
        p = soft_top_k(scores[None], k)
        mask = soft_mask(p[0].clamp(min=LEAST), places, ids.shape[-1])
        logits = forced(vlm, ids, positions, rows, len(answer), mask).logits[0].float()
        loss = F.cross_entropy(logits, answer.to(logits.device))
        weight = anneal(step - self.guided, self.plan.steps - self.guided)
        return {"loss": (1.0, loss), "binary": (weight, binary_loss(p, scores[None], k))}

    def save(self, module: CoViPAL, vlm: VLM, out: Path) -> None:
        save(module, out, vlm.model, asdict(self.plan) | {"layer": self.layer})

    def score(self, vlm: VLM, module: CoViPAL, record: Record, budget: float) -> float:
        encoded = vlm.encode([record.picture()])
        with torch.no_grad():
            scores = module(encoded.tokens.features.to(vlm.device), words_of(vlm, encoded, record))
        return answered(vlm, encoded, record, best(scores, budget))


def words_of(vlm: VLM, encoded: Encoded, record: Record) -> Tensor:
    """(T, D) the question's words, as methods before the language model see them."""
    return vlm.tokens(encoded, record.question, frozenset({"question"})).signal("question").to(vlm.device)


def visual_places(vlm: VLM, encoded: Encoded, ids: Tensor) -> Tensor:
    """(N,) int64: where the N tokens stand in a prompt of all of them, ids (1, L)."""
    rows = torch.isin(ids[0], torch.tensor(vlm.family.marked)).nonzero()[:, 0]
    return rows if encoded.places is None else rows[encoded.places]


def guidance(attention: Tensor, places: Tensor) -> Tensor:
    """(N,) float32 with mean 1: what each visual token receives from all that stands behind the last one.

    attention: (heads, L, L), rows attend. places: (N,) ascending.
    """
    received = attention[:, int(places[-1]) + 1 :].float().sum((0, 1))[places]
    return received / received.mean().clamp(min=torch.finfo(torch.float32).tiny)


def soft_mask(p: Tensor, places: Tensor, length: int) -> Tensor:
    """(1, 1, L, L) float32: the causal mask, and log p (N,) on the visual keys at `places`. Differentiable.

    A token with p = 0 is seen by none, as if it were not there; a test holds that equal to its removal.
    """
    keys = torch.zeros(length, device=p.device).index_copy(0, places.to(p.device), p.log())
    future = torch.full((length, length), float("-inf"), device=p.device).triu(1)
    seen: Tensor = keys.expand(length, length) + future
    own = torch.eye(length, dtype=torch.bool, device=p.device)  # a row without any key would be NaN
    return seen.masked_fill(own, 0.0)[None, None]
