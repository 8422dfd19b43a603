"""CATP, its first stage: of every picture, the tokens that stand for all others and for the words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning import ops
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class CATPFirst(Method):
    """Of each picture X a set Y, greedily, that maximises f(Y) = Σ_{x∈X} max_{y∈Y} sim(x, y) + λ·Σ_{y∈Y} sim(y, t).

    sim = (1 + cos) / 2; t is the mean embedding of the words.

    https://arxiv.org/abs/2508.07871
    Images take turns, as often as their size says; at a budget below their number some get nothing.
    Our adaptation: t is of the question's content words for all pictures, where the paper has a text beside each.
    """

    name: ClassVar[str] = "catp_first"
    title: ClassVar[str] = "CATP (stage 1)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.07871"
    venue: ClassVar[str] = "AAAI 2026"
    adaptation: ClassVar[str] = (
        "Its stage before the language model alone; the words are the question's content words, where the paper pairs "
        "each picture with a text of its own."
    )

    relevance: Annotated[float, Range(0.05, 2, 0.05, label="λ1", help="weight of the words against the picture")] = 0.7

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"question"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        word = scaling.unit_rows(tokens.signal("question").mean(0, keepdim=True))  # (1, D)
        near = (1 + scaling.unit_rows(tokens.features) @ word[0]) / 2  # (N,)
        orders, turns, start = list[Tensor](), list[Tensor](), 0
        for size in tokens.images.unique_consecutive(return_counts=True)[1].tolist():
            own = slice(start, start + size)
            alike = (1 + tokens.similarity[own, own]) / 2
            # An item that one token alone covers adds the same whatever else is chosen: the second sum.
            cover = torch.cat([alike, torch.diag(self.relevance * near[own])], dim=1)
            orders.append(ops.coverage(cover, min(size, budget)) + start)
            turns.append((torch.arange(min(size, budget), device=near.device) + 0.5) / size)
            start += size
        order = torch.cat(orders)[torch.cat(turns).argsort(stable=True)]
        return Selection(order[:budget], tokens.n, near)
