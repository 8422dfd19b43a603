"""PyramidDrop: fewer tokens, the deeper the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

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
    Differs from the release: tokens keep their original positions, where the release numbers them anew.
    """

    name: ClassVar[str] = "pyramiddrop"
    title: ClassVar[str] = "PyramidDrop"
    paper: ClassVar[str] = "https://arxiv.org/abs/2410.17247"
    venue: ClassVar[str] = "CVPR 2025"
    adaptation: ClassVar[str] = (
        "Tokens keep their original positions, where the release numbers them anew at every cut; λ follows from the "
        "retention."
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"next_last_attention"})

    def score(self, seen: Seen) -> Tensor:
        rows: Tensor = seen.signals["next_last_attention"]
        return rows.mean(0)[seen.visual]

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return at_depth(QUARTERS, 4, layers)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        afters = [after for after, _ in self.shape(layers)]
        return pyramid(afters, n, layers, retention)
