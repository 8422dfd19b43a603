"""Naive hybrid: first importance, then diversity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from pruning import ops, spreading
from pruning.importance import ImportanceMethod
from pruning.method import register
from pruning.ops import scaling
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class NaiveHybrid(ImportanceMethod):
    """Take a pool of important tokens, then the K that spread best inside it.

    P = top-M of w;  farthest-point sampling of K tokens inside P, starting at the most important one.
    Reference strategy of IDPruner's analysis, https://arxiv.org/abs/2602.13315 section 3.

    Our adaptation: the paper sweeps λ here too but does not say how λ sets the pool. We take
    M = K + (1 - λ)·(N - K), rounded half up: λ = 1 leaves the K most important, λ = 0 pools all tokens, and both ends
    are then the ends of the MMR curve. The pool depends on K, so picks for different budgets are not nested.
    """

    name: ClassVar[str] = "naive_hybrid"
    title: ClassVar[str] = "Naive hybrid"
    paper: ClassVar[str] = "https://arxiv.org/abs/2602.13315"
    venue: ClassVar[str] = "arXiv 2026"
    trained: ClassVar[bool] = True
    adaptation: ClassVar[str] = "The paper does not say how λ sets the pool; here it goes evenly from K tokens to all."
    nested: ClassVar[bool] = False

    mmr_lambda: Annotated[
        float, Range(0, 1, 0.05, label="λ", help="1 pools only the most important tokens, 0 pools all")
    ] = 0.5

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        importance = self.raw_importance(tokens)
        size = int(budget + (1 - self.mmr_lambda) * (tokens.n - budget) + 0.5)
        members = ops.topk(importance, size)
        pool = torch.zeros(tokens.n, dtype=torch.bool, device=importance.device)
        pool[members] = True
        order = spreading.farthest_point(tokens, budget, members[0], pool)
        return Selection(order, tokens.n, scaling.minmax(importance))
