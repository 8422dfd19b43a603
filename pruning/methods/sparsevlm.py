"""SparseVLM: the words of the question that look at the picture rate its tokens; what is dropped is partly recycled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pruning import ops
from pruning.params import Choice as Options
from pruning.schedules import at_depth
from pruning.seen import Choice, Seen
from pruning.staged import StagedScore, register_staged

DEPTH = 32
STAGES = {  # LLaVA-1.5 7B, "192 tokens"
    "1.5": ((3, 300 / 576), (7, 200 / 576), (16, 110 / 576)),
    "2.0": ((3, 300 / 576), (7, 200 / 576), (16, 118 / 576)),
}
HEADS = 14 / DEPTH  # share of the heads whose attention counts in edition 2.0: 14 of 32
RECYCLED, CLUSTER = 0.3, 10  # share of the dropped tokens that is recycled; how many of these make one


@register_staged
@dataclass(frozen=True)
class SparseVLM(StagedScore):
    """Attention from the text tokens that look at the picture; the best of what is dropped is clustered and kept.

    Raters: text tokens i with r_i > mean(r), r = mean over visual v of softmax_i(v · t_i), by the input embeddings;
    s_j = mean over heads and raters of A[i, j] in layer K - 1. Of k tokens, c stand for recycled ones: the 30 % best of
    the dropped ones, in one cluster (density peaks) for every ten of them, each at the place of its centre.

    https://arxiv.org/abs/2410.04417
    edition "1.5": that. "2.0": nothing is recycled; A[i, j] is divided by the attention that row i would pay j if all
    queries and keys were the same, so by the distance alone; and of 32 heads the 14 count that look most from the
    raters to the picture. Not verified: whether heads are chosen before or
    after the division; here after it.
    variant "code": a recycled token is the mean of its cluster, each token in the one whose centre is nearest.
    "paper": the sum, each token in the one whose centre it is most like by cosine; raters from r >= mean(r).
    """

    name: ClassVar[str] = "sparsevlm"
    title: ClassVar[str] = "SparseVLM"
    paper: ClassVar[str] = "https://arxiv.org/abs/2410.04417"
    venue: ClassVar[str] = "ICML 2025"
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Counts follow from the retention, not from the rank of the attention: the published shares (300, 200 and "
        "110 or, in 2.0, 118 of 576 after layers 3, 7, 16 of 32) times one factor, recycled tokens included; layers "
        "and heads scale with their number. A recycled token takes the position of its cluster's centre. No noise "
        "breaks ties."
    )

    edition: Annotated[
        Literal["1.5", "2.0"],
        Options(label="Edition", help="1.5 recycles dropped tokens · 2.0 drops them, and weighs distance out"),
    ] = "1.5"
    variant: Annotated[
        Literal["paper", "code"],
        Options(label="Form", help="paper: a recycled token is the sum of its cluster · code: the mean"),
    ] = "code"

    @property
    def needs(self) -> frozenset[str]:
        return self.scored_by | ({"hidden"} if self.edition == "1.5" else frozenset())

    @property
    def scored_by(self) -> frozenset[str]:
        return frozenset({"text_attention", "embeddings", *(["gravity"] if self.edition == "2.0" else [])})

    def score(self, seen: Seen) -> Tensor:
        raters = self._raters(seen)
        rows = seen.signals["text_attention"][:, raters][..., seen.visual]  # (H, r, A)
        if self.edition == "2.0":
            rows = rows / seen.signals["gravity"][raters][:, seen.visual]
            rows = rows[ops.topk(rows.sum((1, 2)), max(1, round(HEADS * len(rows))))]
        scores: Tensor = rows.mean((0, 1))
        return scores

    def pick(self, seen: Seen, k: int) -> Choice:
        scores = self.score(seen)
        ranked, alive = ops.topk(scores, len(scores)), len(scores)
        centres = _recycled(alive, k) if self.edition == "1.5" else 0
        if not centres:
            return Choice(ranked[:k], scores)
        kept, dropped = ranked[: k - centres], ranked[k - centres :]
        pool = dropped[: int(RECYCLED * len(dropped)) + 1]
        states = seen.signals["hidden"][seen.visual[pool]]
        chosen = density_peaks(states, centres)
        near = self._nearest(states, chosen)
        rows = torch.zeros_like(states[:centres]).index_add_(0, near, states)
        if self.variant == "code":
            rows /= near.bincount(minlength=centres)[:, None]
        return Choice(torch.cat([kept, pool[chosen]]), scores, pool[chosen], rows)

    def _raters(self, seen: Seen) -> Tensor:
        """(T,) bool: the text tokens that rate."""
        visual, text = seen.signals["embeddings"]
        relevance = (visual @ text.T).softmax(-1).mean(0)
        raters = relevance >= relevance.mean() if self.variant == "paper" else relevance > relevance.mean()
        return raters if bool(raters.any()) else torch.ones_like(raters)

    def _nearest(self, states: Tensor, chosen: Tensor) -> Tensor:
        """(P,) which of the chosen centres each token goes into; a centre into itself."""
        if self.variant == "paper":
            unit = normalize(states, dim=-1)
            near = (unit @ unit[chosen].T).argmax(-1)
        else:
            near = torch.cdist(states, states[chosen]).argmin(-1)
        near[chosen] = torch.arange(len(chosen), device=near.device)
        return near

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return at_depth(STAGES[self.edition], DEPTH, layers)


def density_peaks(states: Tensor, centres: int) -> Tensor:
    """(P, D) -> (centres,) int64, the tokens with many near neighbours and no denser one nearby, best first.

    Distance |x - y| / sqrt(D); density = exp(-mean of the squared distances to the `centres` nearest, itself included);
    peak = density times the distance to the nearest denser token, of the densest to the farthest.
    """
    distance = torch.cdist(states, states) / states.shape[1] ** 0.5
    near = distance.topk(min(centres, len(states)), largest=False).values
    density = (-near.square().mean(-1)).exp()
    denser = density[None] > density[:, None]
    gap = torch.where(denser, distance, distance.max()).amin(-1)
    return ops.topk(density * gap, centres)


def _recycled(alive: int, k: int) -> int:
    """How many of the k tokens that stay stand for recycled ones; 0 where nothing is dropped or only one stays."""
    if alive == k or k < 2:
        return 0
    centres = 1
    # Each recycled token takes the place of one that would have stayed, which is then among the dropped ones.
    while centres < k - 1 and int(RECYCLED * (alive - k + centres)) // CLUSTER + 1 > centres:
        centres += 1
    return centres
