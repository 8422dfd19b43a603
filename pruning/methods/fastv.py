"""FastV: an image is worth half its tokens after layer 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from pruning.params import Range
from pruning.schedules import one_drop
from pruning.staged import Seen, StagedScore, register_staged


@register_staged
@dataclass(frozen=True)
class FastV(StagedScore):
    """Keep the tokens that the prompt's last token attended to most in the last layer before the cut.

    phi_j = mean over heads of A[last, j] in layer K - 1;  after K layers the k largest phi stay.

    https://arxiv.org/abs/2403.06764
    Differs from the paper's text, which averages over all queries: the released code, like every later comparison,
    reads the last row.
    """

    name: ClassVar[str] = "fastv"
    title: ClassVar[str] = "FastV"
    paper: ClassVar[str] = "https://arxiv.org/abs/2403.06764"
    venue: ClassVar[str] = "ECCV 2024"
    adaptation: ClassVar[str] = "In models of fewer than 4·K layers the cut comes after a quarter of them."

    after: Annotated[int, Range(1, 64, 1, label="Layer K", help="layers that still process all tokens")] = 2

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"last_attention"})

    def score(self, seen: Seen) -> Tensor:
        rows: Tensor = seen.signals["last_attention"]
        return rows.mean(0)[seen.visual]

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return ((min(self.after, max(1, layers // 4)), 0.5),)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        return (one_drop(self.shape(layers)[0][0], n, layers, retention),)
