"""AgilePruner: attention, with more room between picks where the picture is complex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning import ops, spreading
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens

SLOPE = 0.01  # how much the threshold grows with each rank, at average complexity


@register
@dataclass(frozen=True)
class AgilePruner(Method):
    """Walk down the tokens by attention; each one kept removes those closer to it than a threshold that grows.

    erank = exp(-sum_i p_i ln p_i), p = σ / sum σ, σ the singular values of the features, centred over tokens;
    the token of rank r (1 = most attended) removes all with 1 - cos < τ_r = min(0.01·r·erank / erank_avg, τ_max).
    When nobody is left before K are kept, the removed follow by attention.

    https://arxiv.org/abs/2603.01236
    Our adaptation: the defaults are those of LLaVA-1.5, as the paper's for other models are not known to us; erank_avg
    is meant to be the mean erank over pictures of the model in use. Several pictures are pruned jointly.
    """

    name: ClassVar[str] = "agile_pruner"
    title: ClassVar[str] = "AgilePruner"
    paper: ClassVar[str] = "https://arxiv.org/abs/2603.01236"
    venue: ClassVar[str] = "ICLR 2026"
    adaptation: ClassVar[str] = "The constants are those for LLaVA-1.5; other models want their own average erank."

    erank_avg: Annotated[
        float, Range(5, 500, 5, label="Average erank", help="mean effective rank of the model's pictures")
    ] = 90.0
    tau_max: Annotated[float, Range(0, 1, 0.05, label="τ max", help="the largest threshold; 0 = attention only")] = 0.25
    layer: Annotated[int, Range(-2, -1, 1, label="Layer", help="vision layer, counted from the end")] = -2

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"vision_attention@{self.layer}"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        attention = tokens.signal(f"vision_attention@{self.layer}").float()
        ranks = torch.arange(1, tokens.n + 1, device=attention.device, dtype=torch.float32)
        reach = (ranks * (SLOPE * _effective_rank(tokens) / self.erank_avg)).clamp(max=self.tau_max)
        order = spreading.thin_out(ops.topk(attention, tokens.n), tokens, reach, budget)
        return Selection(order, tokens.n, attention)


def _effective_rank(tokens: VisualTokens) -> Tensor:
    """() float32 in 1..min(N, D): exp of the entropy of the centred features' singular values; 1 if all are equal."""
    features = tokens.features / tokens.features.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    if features.shape[1] <= tokens.n:
        centred = features - features.mean(dim=0)
        gram = centred.T @ centred  # (D, D): the smaller of the two matrices that have these eigenvalues
    else:
        norms = torch.linalg.vector_norm(features, dim=1)
        alike = tokens.similarity if tokens.has_similarity else scaling.cosine_similarity(features)
        gram = alike * norms[:, None] * norms  # (N, N), N < D
        means = gram.mean(dim=0)
        gram = gram - means - means[:, None] + means.mean()
    sigma = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    return torch.special.entr(scaling.share(sigma)).sum().exp() if bool(sigma.any()) else sigma.new_ones(())
