"""AdaptInfer: text that is attended to says which visual tokens matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from pruning.params import Choice
from pruning.schedules import at_depth
from pruning.seen import Seen
from pruning.staged import StagedScore, register_staged

STAGES = ((2, 290 / 576), (11, 72 / 576), (21, 18 / 576))  # LLaVA-1.5 7B, "128 tokens"
DEPTH = 32


@register_staged
@dataclass(frozen=True)
class AdaptInfer(StagedScore):
    """Attention from the text after the images, each text token weighed by the text's attention to and from it.

    Per head h of layer K - 1: B = A[text, text], S = B + B^T - diag(B), u_i = sum_m S[m, i];
    s_j = sum_h sum_i u_i^h · A^h[i, j];  after 2, 11 and 21 of 32 layers the largest s stay.

    https://arxiv.org/abs/2508.06084
    variant "code": what stays is numbered anew at every cut, without gaps, as in the release for LLaVA; that for
    Qwen2-VL, and "paper", keep original positions, so with M-RoPE both forms are the same.
    """

    name: ClassVar[str] = "adaptinfer"
    title: ClassVar[str] = "AdaptInfer"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.06084"
    venue: ClassVar[str] = "arXiv 2025"
    adaptation: ClassVar[str] = (
        "The published shares (290, 72, 18 of 576 after layers 2, 11, 21 of 32) keep their proportions: one factor "
        "fits them to the retention, layers scale with the depth. Tokens keep their positions; numbered anew, as in "
        "the release for LLaVA, with the form 'code', where positions have one axis."
    )

    variant: Annotated[
        Literal["paper", "code"],
        Choice(label="Form", help="paper: tokens keep their positions · code: numbered anew, but with M-RoPE"),
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"text_attention"})

    def renumbers(self, axes: int) -> bool:
        return self.variant == "code" and axes == 1

    def score(self, seen: Seen) -> Tensor:
        rows: Tensor = seen.signals["text_attention"]  # (H, T, R)
        block = rows[:, :, seen.text]  # (H, T, T)
        both = block + block.mT - block.diagonal(dim1=1, dim2=2).diag_embed()
        weight = both.sum(1)  # (H, T)
        return (weight[:, :, None] * rows[:, :, seen.visual]).sum((0, 1))

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return at_depth(STAGES, DEPTH, layers)
