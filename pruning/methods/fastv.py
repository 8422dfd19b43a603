"""FastV: an image is worth half its tokens after layer 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from pruning.ops.queries import received
from pruning.params import Choice, Range
from pruning.seen import Seen
from pruning.staged import StagedScore, register_staged


@register_staged
@dataclass(frozen=True)
class FastV(StagedScore):
    """Keep the tokens that are attended to most in the last layer before the cut.

    phi_j = mean over heads of A[last, j] in layer K - 1;  after K layers the k largest phi stay.

    https://arxiv.org/abs/2403.06764
    rows "last", the default: what the prompt's last token attends to, as in the released code and every later
    comparison. "all": what all tokens do, in sum, as the paper's text has it.
    """

    name: ClassVar[str] = "fastv"
    title: ClassVar[str] = "FastV"
    paper: ClassVar[str] = "https://arxiv.org/abs/2403.06764"
    venue: ClassVar[str] = "ECCV 2024"
    adaptation: ClassVar[str] = "In models of fewer than 4·K layers the cut comes after a quarter of them."

    after: Annotated[int, Range(1, 64, 1, label="Layer K", help="layers that still process all tokens")] = 2
    rows: Annotated[
        Literal["last", "all"],
        Choice(
            label="Rows", help="last: of the prompt's last token, as released · all: of every token, as in the paper"
        ),
    ] = "last"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"last_attention" if self.rows == "last" else "attention"})

    def score(self, seen: Seen) -> Tensor:
        if self.rows == "all":
            return received(seen.signals["attention"], len(seen.rows))[seen.visual]
        rows: Tensor = seen.signals["last_attention"]
        return rows.mean(0)[seen.visual]

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return ((min(self.after, max(1, layers // 4)), 0.5),)
