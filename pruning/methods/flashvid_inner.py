"""FlashVID, both stages: what was chosen and merged before the language model is thinned out late inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.schedules import at_depth
from pruning.seen import Seen
from pruning.staged import StagedScore, register_staged

ENTERING, LEFT = 1.25 * 0.2, 0.3  # f_e·R at R = 0.2; share of what entered that is left
AFTER, DEPTH = 20, 28  # of Qwen2.5-VL 7B


@register_staged
@dataclass(frozen=True)
class FlashVIDInner(StagedScore):
    """f_e·R of the tokens enter, by FlashVID; after 20 of 28 layers 30 % of these stay.

    phi_j = mean over heads of A[last, j] in the layer before the cut. With f_e = 1.25 the mean over the layers is R:
    1.25·(20 + 8·0.3) / 28 = 1.

    https://arxiv.org/abs/2602.08024
    Our adaptation: the cut scales with the depth of other models.
    """

    name: ClassVar[str] = "flashvid_inner"
    title: ClassVar[str] = "FlashVID (both stages)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2602.08024"
    venue: ClassVar[str] = "ICLR 2026"
    first: ClassVar[str] = "flashvid"
    merges: ClassVar[bool] = True
    clips: ClassVar[bool] = True
    adaptation: ClassVar[str] = "The constants are those for Qwen2.5-VL; the cut scales with the depth of other models."

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"last_attention"})

    def score(self, seen: Seen) -> Tensor:
        rows: Tensor = seen.signals["last_attention"]
        return rows.mean(0)[seen.visual]

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return (0, ENTERING), *at_depth(((AFTER, ENTERING * LEFT),), DEPTH, layers)
