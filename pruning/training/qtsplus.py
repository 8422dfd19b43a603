"""QTSplus' selector and budget head for any supported model, in the loop of `fit`: tokens come and go by chance.

arXiv 2511.11910. Of every record log r is held against the t at which the probabilities σ((log r - t)/τ) add up to ρN;
each token stays or goes by such a coin, relaxed. Loss: the answers' cross entropy + λ_t·(ρ/b)² + λ_m·ρ/b +
λ_s·(ρ - ρ̄)², ρ̄ the running mean. The selector begins as the first layer of the language model, as in the release.
Differs: log r, not r, since the r of a picture's tokens lie within hundredths of each other; the coin is that of
(log r - t)/τ, so that ρN tokens stay in the mean, where the release tosses one of r - t; a token that goes is not seen
as a key, where the release multiplies its row by 0; b, the share that ρ is weighed against, is `--budget` in the place
of n_max / N, as pictures have fewer tokens than n_max; the pace of ρ̄ is a guess; nothing is encoded anew.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.models import VLM
from pruning.models.trained import QTSplus, save
from pruning.training.fit import answered, best, forced, read
from pruning.training.pruners import LEAST, PrunerPlan, soft_mask, visual_places, words_of
from pruning.training.records import Record

TEMPERATURE = 0.5  # τ
TIME, MEMORY, STEADY = 0.1, 0.17, 0.05  # λ_t, λ_m, λ_s
PACE = 0.02  # of the running mean of ρ, each record


class QTSplusTrainee:
    """Of a model that was loaded with any attention."""

    name = QTSplus.name

    def __init__(self, vlm: VLM, plan: PrunerPlan) -> None:
        self.plan = plan

    def file(self) -> str:
        return f"{self.name}.safetensors"

    def new(self, vlm: VLM, generator: torch.Generator) -> QTSplus:
        return new_selector(vlm, generator.initial_seed())

    def losses(self, vlm: VLM, module: QTSplus, record: Record, step: int) -> dict[str, tuple[float, Tensor]]:
        encoded, ids, positions, answer = read(vlm, record)
        words = words_of(vlm, encoded, record)
        relevance = module.relevance(encoded.tokens.features.to(vlm.device), words)
        share = module.share(relevance, words)
        coins = torch.Generator().manual_seed(zlib.crc32(f"{self.plan.seed} {step} {record.name}".encode()))
        stays = tossed(above(relevance / TEMPERATURE, share * len(relevance)), coins)
        mask = soft_mask(stays.clamp(min=LEAST), visual_places(vlm, encoded, ids), ids.shape[-1])
        logits = forced(vlm, ids, positions, encoded.rows(None), len(answer), mask).logits[0].float()
        mean = module.mean.clone()
        module.mean.lerp_(share.detach(), PACE)
        weighed = share / self.plan.budget
        return {
            "loss": (1.0, F.cross_entropy(logits, answer.to(logits.device))),
            "time": (TIME, weighed**2),
            "memory": (MEMORY, weighed),
            "unsteady": (STEADY, (share - mean) ** 2),
        }

    def save(self, module: QTSplus, vlm: VLM, out: Path) -> None:
        save(module, out, vlm.model, asdict(self.plan))

    def score(self, vlm: VLM, module: QTSplus, record: Record, budget: float) -> float:
        encoded = vlm.encode([record.picture()])
        with torch.no_grad():
            scores = module.relevance(encoded.tokens.features.to(vlm.device), words_of(vlm, encoded, record))
        return answered(vlm, encoded, record, best(scores, budget))


def new_selector(vlm: VLM, seed: int) -> QTSplus:
    """Untrained: norm, queries and keys are those of the language model's first layer, where it has them apart."""
    config = vlm.config.get_text_config()
    dim, heads = int(config.hidden_size), int(config.num_attention_heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(getattr(config, "head_dim", None) or dim // heads)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = QTSplus(dim, heads, groups, width)
    theirs = vlm.model.get_decoder().layers[0].state_dict()
    parts: dict[str, nn.Module] = {"input_layernorm": module.norm, "self_attn.q_proj": module.query,
                                   "self_attn.k_proj": module.key}  # fmt: skip
    for name, part in parts.items():
        for kind, weight in part.named_parameters():
            known = theirs.get(f"{name}.{kind}")
            if known is not None and known.shape == weight.shape and known.is_floating_point():
                weight.data.copy_(known)
    return module


def above(scores: Tensor, total: Tensor | float) -> Tensor:
    """(N,) scores - t, float32, with the t for which σ(scores - t) adds up to `total`, 0 < total < N. Differentiable
    in both: Newton's last step is taken with its gradient, which is that of the implicit function.

    >>> above(torch.tensor([9.0, 5.0, 4.0, 1.0]), 2.0).sub(torch.tensor([9.0, 5.0, 4.0, 1.0])).neg()[0].item()
    4.53...
    """
    with torch.no_grad():
        fixed = scores.double()
        low, high = fixed.min() - 40, fixed.max() + 40
        for _ in range(64):
            t = (low + high) / 2
            low, high = (t, high) if float((fixed - t).sigmoid().sum()) > float(total) else (low, t)
        t = t.float()
        odds = (scores - t).sigmoid()
        slope = (odds * (1 - odds)).sum().clamp(min=1e-6)
    return scores - (t + ((scores - t).sigmoid().sum() - total) / slope)


def tossed(odds: Tensor, coins: torch.Generator) -> Tensor:
    """(N,) in 0..1: of each token with log-odds to stay (N,) a relaxed coin, at TEMPERATURE; differentiable."""
    luck = torch.rand(len(odds), generator=coins).clamp(1e-6, 1 - 1e-6).logit().to(odds.device)
    return ((odds + luck) / TEMPERATURE).sigmoid()
