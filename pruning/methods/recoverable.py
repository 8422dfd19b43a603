"""Recoverable Compression: what attention overlooked comes back where the question asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning.importance import raw_importance
from pruning.method import Method, register
from pruning.ops import merging
from pruning.ops.outliers import local_outliers
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens

CLIP_WIDTH = 768  # of the joint space whose cosine the paper divides by √768
RELEVANCE_WEIGHT = 50  # of that quotient beside the cosine of two keys
LEFTOVER_NEIGHBOURS = 10


@register
@dataclass(frozen=True)
class Recoverable(Method):
    """Keep what stands out in attention, recover what stands out in relevance, merge what is left around a few centres.

    c = attention from CLS, y = cos(question, token) / √768, out(.) = number of its local outliers (LOF).  Visual: top
    n_v = out(c) of c.  Text: top n_t = (N - n_v)·out(y) / N of y, where y of the visual ones is set to min y.  Of the
    leftovers L the top n_c = (n_v + n_t)·out(c_L) / |L| of c are centres: x_i' = x_i + Σ c_j x_j over the 32 leftovers
    with the highest cos(k_i, k_j) + 50 y_j.  One extra token Σ c_j x_j over the other leftovers, if there are centres.

    https://arxiv.org/abs/2409.01179
    Under a budget of K: n_v : n_t splits the kept, the text share rounded down, filled by c and by y; n_c is K·out(c_L)
    / |L| with the L that K kept tokens would leave, and the centres and the extra token take places of the K. The extra
    token stands where the leftover with the highest c that is no centre stood. The picture shows a leftover in the most
    similar centre that took it in, else in the extra token.
    Differs from the released code: keys are those of the token itself, not of another that shares its index.
    Our adaptation: the question's words as the language model embeds them stand for CLIP's text tower, and features for
    its projected patches; rows are merged after the projector; c is the mean over heads, not one wide head, and where
    there is no CLS, attention received divided by its sum.
    """

    name: ClassVar[str] = "recoverable"
    title: ClassVar[str] = "Recoverable Compression"
    paper: ClassVar[str] = "https://arxiv.org/abs/2409.01179"
    venue: ClassVar[str] = "AAAI 2025"
    nested: ClassVar[bool] = False
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Relevance comes from the language model's embeddings, not CLIP's text tower; merges after the projector."
    )

    neighbours: Annotated[int, Range(1, 64, 1, label="Neighbours", help="leftovers that each centre takes in")] = 32
    lof_neighbours: Annotated[
        int, Range(2, 50, 1, label="LOF neighbours", help="scores that an outlier is compared with")
    ] = 20

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"vision_attention@-1", "vision_keys@-1", "question"})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        c = merging.attention_shares(tokens.signal("vision_attention@-1"), tokens.pictures)
        y = raw_importance(tokens, "relevance", self.name) / CLIP_WIDTH**0.5
        keys = tokens.signal("vision_keys@-1").flatten(1)
        visual, text, merged = self._split(c, y, budget)
        order = _best(c, visual)
        order = torch.cat([order, _best(y, text, order)])
        rows, merge_into = tokens.features[order], torch.full_like(y, -1, dtype=torch.int64)
        if merged:
            left = torch.ones_like(y, dtype=torch.bool)
            left[order] = False
            chosen = _best(c, merged, order)
            centres, extra = chosen[:-1], chosen[-1:]
            bonus = RELEVANCE_WEIGHT * y
            grown, taken_by = merging.absorb(tokens.features, keys, c, centres, left, self.neighbours, bonus)
            merge_into = torch.where(left & (taken_by < 0), extra, taken_by)
            left[centres] = False
            rows = torch.cat([rows, grown, (c * left)[None] @ tokens.features])
            order = torch.cat([order, chosen])
        merge_into[order] = order
        return Selection(order, tokens.n, c, merge_into, rows)

    def _split(self, c: Tensor, y: Tensor, budget: int) -> tuple[int, int, int]:
        """How many of the budget are visual tokens, text tokens, and centres with the extra token."""
        n = len(c)
        visual = int(local_outliers(c, self.lof_neighbours).sum())
        unseen = y.index_fill(0, _best(c, visual), float(y.min()))
        text = (n - visual) * int(local_outliers(unseen, self.lof_neighbours).sum()) // n
        share = Fraction(text, max(1, visual + text))
        kept = _best(c, budget - int(budget * share))
        left = torch.ones_like(c, dtype=torch.bool)
        left[torch.cat([kept, _best(y, int(budget * share), kept)])] = False
        centres = budget * int(local_outliers(c[left], LEFTOVER_NEIGHBOURS).sum()) // max(1, n - budget)
        merged = centres + 1 if centres else 0
        text = int((budget - merged) * share)
        return budget - merged - text, text, merged


def _best(scores: Tensor, k: int, but: Tensor | None = None) -> Tensor:
    """(k,) int64, the k highest in falling order; `but` (·,) int64 are left out."""
    if but is not None:
        scores = scores.index_fill(0, but, -torch.inf)
    return scores.sort(descending=True, stable=True).indices[:k]
