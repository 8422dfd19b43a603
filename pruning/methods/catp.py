"""CATP: earlier pictures are pruned by what the question comes to look at, then the last one by what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pruning.params import Range
from pruning.schedules import fitted
from pruning.seen import Choice, Seen
from pruning.staged import StagedMethod, register_staged

K, DEPTH = 7, 32  # layers before the first cut, of LLaVA-NeXT 7B
PRUNED = 0.778  # share of all tokens


@register_staged
@dataclass(frozen=True)
class CATP(StagedMethod):
    """Pictures as examples: all but the last lose tokens after K layers, the last one after K + 1.

    First s_c = ReLU(A^K[last, c] - A^{K-1}[last, c]) + λ·cos(h_c, q), q the mean state of the last picture and all
    after it; then s_x = cos(h_x, c), c the mean state of all before it.

    https://arxiv.org/abs/2508.07871
    Entering are 1 - R/2 of the tokens, by its first stage; the two cuts take a quarter of them each, which is the same
    share R/2 of both pictures where there are two.
    Not verified: whether K is counted from 0, as here, and whether c holds the text between pictures, as here.
    """

    name: ClassVar[str] = "catp"
    title: ClassVar[str] = "CATP"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.07871"
    venue: ClassVar[str] = "AAAI 2026"
    earliest: ClassVar[int] = 2
    first: ClassVar[str] = "catp_first"
    images: ClassVar[int] = 2
    adaptation: ClassVar[str] = (
        "Needs several pictures: earlier ones are the examples, the last is asked about. The paper does not say how "
        "the second half of the budget is split between them; here each takes half of it. K scales with the depth."
    )

    nearness: Annotated[float, Range(0, 2, 0.05, label="λ2", help="weight of the states against the attention")] = 0.6

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"received_from_last", "hidden"})

    def pick(self, seen: Seen, k: int) -> Choice:
        last = seen.images == seen.images.max()
        asked = torch.arange(len(seen.rows), device=last.device) >= seen.visual[last][0]  # (R,)
        states = seen.signals["hidden"]
        if seen.earlier:
            scores, losing = cosine_similarity(states[seen.visual], states[~asked].mean(0), dim=-1), last
        else:
            near = cosine_similarity(states[seen.visual], states[asked].mean(0), dim=-1)
            scores, losing = self._rise(seen).relu() + self.nearness * near, ~last
        # Those that do not lose here stay first.
        order = scores.argsort(descending=True, stable=True)
        return Choice(order[losing[order].long().argsort(stable=True)][:k], scores)

    def _rise(self, seen: Seen) -> Tensor:
        """(A,) what the last token's attention has gained from the layer before to the last one."""
        *_, before, now = seen.signals["received_from_last"]
        alive = seen.rows[seen.visual]
        earlier, later = (layer.values[torch.searchsorted(layer.rows, alive)] for layer in (before, now))
        return later - earlier

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        if layers < self.earliest + 2:  # one more between the cuts, and one after them
            return ()
        first = max(self.earliest, round(layers * K / DEPTH))
        return tuple(zip((0, first, first + 1), _left(1 - PRUNED), strict=True))

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        return fitted(_left, [after for after, _ in self.shape(layers)], n, layers, retention)


def _left(share: float) -> list[float]:
    """Shares of all tokens that enter, stay at the first cut and at the second, where `share` is left in the end."""
    return [1 - (1 - share) * part for part in (1 / 2, 3 / 4, 1)]
