"""PruMerge and PruMerge+: attended tokens, each with what its nearest tokens add to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning import ops
from pruning.method import Method, register
from pruning.ops import merging
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class PruMerge(Method):
    """Keep the most attended tokens, add to each its most similar others, and sum up all that was dropped in one more.

    a_j = attention from CLS to j.  Kept: top of a.  x_i' = x_i + Σ a_j x_j over the 32 tokens j, kept or not, with the
    highest cos(k_i, k_j).  One extra token Σ a_j x_j over the dropped j.  "prumerge+": a quarter of the kept are the
    top of a, three quarters an even grid of places.

    https://arxiv.org/abs/2403.15388
    Under a budget of K: K - 1 tokens are kept, and the extra token takes the place of the most attended dropped one
    (K = 1 has no extra token, K = N merges nothing). The paper keeps r·N, the outliers above Q3 + 1.5 IQR; here r
    follows from K. Its + adds every (1 / 3r)-th place, three for each outlier: that share is kept, and places that are
    top tokens already are made up for by the next in a. Weights are not normalised, as in the released code (the
    paper's text was not at hand). The picture shows a token in the kept one most similar to it among those that took
    it in, else in the extra one; tokens that are kept themselves are also in each other's rows.
    Our adaptation: rows are merged after the projector; a is the mean over heads, not one wide head, and where there is
    no CLS, attention received divided by its sum.
    """

    name: ClassVar[str] = "prumerge"
    title: ClassVar[str] = "PruMerge"
    paper: ClassVar[str] = "https://arxiv.org/abs/2403.15388"
    venue: ClassVar[str] = "ICCV 2025"
    nested: ClassVar[bool] = False
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Merges after the projector, not before, and its attention is the mean over heads; the budget sets the count."
    )

    form: Annotated[
        Literal["prumerge", "prumerge+"],
        Choice(label="Form", help="prumerge: the most attended tokens · prumerge+: a quarter of them, the rest a grid"),
    ] = "prumerge"
    neighbours: Annotated[int, Range(1, 64, 1, label="Neighbours", help="tokens that each kept token takes in")] = 32

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"vision_attention@-1", "vision_keys@-1"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        attention = merging.attention_shares(tokens.signal("vision_attention@-1"), tokens.pictures)
        keys = tokens.signal("vision_keys@-1").flatten(1)
        ranked = ops.topk(attention, tokens.n)
        everyone = torch.arange(tokens.n, device=ranked.device)
        kept = self._kept(ranked, budget - 1 if 1 < budget < tokens.n else budget)
        if budget == tokens.n:
            return Selection(kept, tokens.n, attention, everyone, tokens.features[kept])
        pool = torch.ones_like(ranked, dtype=torch.bool)
        rows, merge_into = merging.absorb(tokens.features, keys, attention, kept, pool, self.neighbours)
        if len(kept) < budget:
            dropped = ~torch.isin(everyone, kept)
            extra = ranked[dropped[ranked]][:1]
            kept = torch.cat([kept, extra])
            rows = torch.cat([rows, (attention * dropped)[None] @ tokens.features])
            merge_into = torch.where(merge_into < 0, extra, merge_into)
        merge_into[kept] = kept
        return Selection(kept, tokens.n, attention, merge_into, rows)

    def _kept(self, ranked: Tensor, k: int) -> Tensor:
        """ranked (N,) -> (k,) int64: the first k, or for + the first quarter, then an even grid, then the next."""
        if self.form == "prumerge":
            return ranked[:k]
        n, top = len(ranked), -(-k // 4)
        turn = torch.full((n,), 2, device=ranked.device)
        turn[torch.arange(k - top, device=ranked.device) * n // max(1, k - top)] = 1
        turn[ranked[:top]] = 0
        return ranked[turn[ranked].sort(stable=True).indices[:k]]
