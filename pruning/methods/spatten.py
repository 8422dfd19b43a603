"""SpAtten: tokens that no layer so far attended to leave, a few before every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning.params import Choice
from pruning.schedules import fitted
from pruning.seen import Seen
from pruning.staged import StagedScore, register_staged

UNTOUCHED = 0.15  # share of the layers before the first cut
LAST = 0.3  # share that the last layer sees, as GPT-2 medium's in the release


@register_staged
@dataclass(frozen=True)
class SpAtten(StagedScore):
    """Cascade pruning by the attention received in all layers so far.

    s_j = sum over layers, heads and queries of A[i, j]. From layer s = max(3, ⌊.15·L⌋) on, the share that enters layer
    l falls evenly: 1 - (1 - ρ)(l - s + 1) / (L - s).

    https://arxiv.org/abs/2012.09852
    sum "seen": over the number of queries that can see j, since early tokens are seen by more; ours, off.
    """

    name: ClassVar[str] = "spatten"
    title: ClassVar[str] = "SpAtten (cascade)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2012.09852"
    venue: ClassVar[str] = "HPCA 2021"
    adaptation: ClassVar[str] = (
        "Made for text: only visual tokens leave here, while the prompt goes through; heads, values and bits stay. "
        "The even fall is that of a BERT schedule, and starts no later than after a quarter of the layers. Slow: it "
        "reads all rows of all layers."
    )

    sum: Annotated[
        Literal["plain", "seen"],
        Choice(label="Sum", help="plain: as published · seen: divided by how many queries can see the token"),
    ] = "plain"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"received"})

    def score(self, seen: Seen) -> Tensor:
        alive = seen.rows[seen.visual]
        total = torch.zeros(len(alive), device=alive.device)
        for layer in seen.signals["received"]:
            at = torch.searchsorted(layer.rows, alive)
            values = layer.values[at]
            total += values / (len(layer.rows) - at) if self.sum == "seen" else values
        return total

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        start = min(max(3, int(UNTOUCHED * layers)), max(1, layers // 4))
        return tuple((start + i, share) for i, share in enumerate(_falling(LAST, layers - start)))

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        afters = [after for after, _ in self.shape(layers)]
        return fitted(lambda last: _falling(last, len(afters)), afters, n, layers, retention)


def _falling(last: float, steps: int) -> list[float]:
    """`steps` shares that fall evenly from below 1 to `last`."""
    return [1 - (1 - last) * (i + 1) / steps for i in range(steps)]
