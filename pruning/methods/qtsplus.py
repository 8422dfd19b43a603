"""QTSplus: top-k of a trained relevance to the question, as many as a trained head finds that it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from pruning.method import ScoreMethod, register
from pruning.params import Choice
from pruning.tokens import VisualTokens

MOST = 512  # n_max
ROUNDING = 1e-4  # of the sum of many shares


@register
@dataclass(frozen=True)
class QTSplus(ScoreMethod):
    """Keep the K tokens most relevant to the question by a trained layer of cross-attention, or as many as it takes.

    r_j = max over words and heads of softmax(query · key_j / √d);  its own budget is n = min(⌈ρ·N⌉, 512), with ρ from
    0.05 to 0.5 by a head that reads the mean word, log N, max r and the entropy of r/Σr.

    https://arxiv.org/abs/2511.11910
    budget "own": at most n tokens. As published: the layer's form, r, ρ and n. An adaptation: a budget K takes the
    place of n; the layers that encode the kept tokens anew are left out, as the language model is not trained along;
    kept tokens keep their positions; the layer reads the question's content words. Of several parts with budgets of
    their own each has its share of n.
    """

    name: ClassVar[str] = "qtsplus"
    title: ClassVar[str] = "QTSplus"
    paper: ClassVar[str] = "https://arxiv.org/abs/2511.11910"
    venue: ClassVar[str] = "arXiv 2025"
    trained: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Only selector and budget head: what is kept is not encoded anew. A budget makes its own one exact; with 'own' "
        "it is a limit. It reads the question's content words."
    )

    budget: Annotated[
        Literal["exact", "own"],
        Choice(label="Budget", help="exact: as asked for · own: as many as the question takes, at most as many"),
    ] = "exact"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"qtsplus"})

    @property
    def nested(self) -> bool:  # type: ignore[override]
        return self.budget == "exact"

    def limit(self, tokens: VisualTokens) -> int:
        return own_budget(tokens.signal("qtsplus")[:, 1]) if self.budget == "own" else tokens.n

    def score(self, tokens: VisualTokens) -> Tensor:
        return tokens.signal("qtsplus")[:, 0]

    def reason(self, tokens: VisualTokens, token: int) -> str:
        relevance, shares = tokens.signal("qtsplus").T
        return (
            f"relevance {float(relevance[token]):.3f} to the question, the most relevant first; by its own budget "
            f"{own_budget(shares):,} of the {tokens.n:,} tokens would stay"
        )


def own_budget(shares: Tensor) -> int:
    """n, of the share ρ that each of N tokens stands for (N,) float32: 1..N.

    >>> import torch
    >>> own_budget(torch.full((10,), 0.24)), own_budget(torch.full((4096,), 0.5))
    (3, 512)
    """
    n = math.ceil(float(shares.double().clamp(0, 1).sum()) - ROUNDING)
    return min(max(n, 1), MOST, len(shares))
