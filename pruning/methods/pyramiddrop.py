"""PyramidDrop: fewer tokens, the deeper the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from pruning.params import Choice
from pruning.schedules import QUARTERS, at_depth, pyramid
from pruning.seen import Seen
from pruning.staged import StagedScore, register_staged


@register_staged
@dataclass(frozen=True)
class PyramidDrop(StagedScore):
    """After each quarter of the layers, keep λ^s of the tokens by the last token's attention in the layer that follows.

    s_j = mean over heads of softmax(q_last·K^T)[j] with norm and weights of layer K on the states that enter it;
    after L/4, L/2, 3L/4 layers the N·λ^s largest stay, λ = 0.5 as published.

    https://arxiv.org/abs/2410.17247
    variant "code": what stays is numbered anew at every cut, without gaps, as released; "paper", which says nothing of
    it: tokens keep their original positions.
    """

    name: ClassVar[str] = "pyramiddrop"
    title: ClassVar[str] = "PyramidDrop"
    paper: ClassVar[str] = "https://arxiv.org/abs/2410.17247"
    venue: ClassVar[str] = "CVPR 2025"
    adaptation: ClassVar[str] = (
        "λ follows from the retention. Tokens keep their original positions; numbered anew at every cut as in the "
        "release with the form 'code', which with M-RoPE counts rows and columns of an image by themselves."
    )

    variant: Annotated[
        Literal["paper", "code"],
        Choice(label="Form", help="paper: tokens keep their positions · code: numbered anew at every cut, as released"),
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"next_last_attention"})

    def renumbers(self, axes: int) -> bool:
        return self.variant == "code"

    def score(self, seen: Seen) -> Tensor:
        rows: Tensor = seen.signals["next_last_attention"]
        return rows.mean(0)[seen.visual]

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return at_depth(QUARTERS, 4, layers)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        afters = [after for after, _ in self.shape(layers)]
        return pyramid(afters, n, layers, retention)
