"""TransPrune: how much layers change a token says how much they need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning.params import Choice, Range
from pruning.schedules import at_depth
from pruning.seen import Seen, Transition
from pruning.staged import StagedScore, register_staged

STAGES = ((7, 0.875), (9, 0.625), (12, 0.125))  # LLaVA-1.5 7B, "High"
FIRST, DEPTH = 6, 32  # layers before the first one whose transitions count


@register_staged
@dataclass(frozen=True)
class TransPrune(StagedScore):
    """Token transitions of the layers before the cut, and the attention of the text after the images.

    Module F of a layer, x its input: m = |F(x)| / |x|, c = cos(F(x), x), TTV = m · softmax(1 - |c|) over its tokens;
    attention and MLP added, summed over layers 7.. . IGA_j = mean over heads and text rows of the next layer's
    attention.  s = α · TTV / sum TTV + (1 - α) · IGA / sum IGA over the visual tokens alive.

    https://arxiv.org/abs/2507.20630
    variant "code": softmax(1 - c), and what stays is numbered anew at every cut, without gaps, as released; "paper":
    softmax(1 - |c|), and tokens keep their original positions.
    """

    name: ClassVar[str] = "transprune"
    title: ClassVar[str] = "TransPrune"
    paper: ClassVar[str] = "https://arxiv.org/abs/2507.20630"
    venue: ClassVar[str] = "CVPR 2026"
    adaptation: ClassVar[str] = (
        "The published shares (7/8, 5/8, 1/8 after layers 7, 9, 12 of 32) keep their proportions: one factor fits "
        "them to the retention, layers scale with the depth. Tokens keep their original positions; numbered anew as in "
        "the release with the form 'code', which with M-RoPE counts rows and columns of an image by themselves."
    )

    alpha: Annotated[float, Range(0, 1, 0.05, label="α", help="1 ranks by transitions alone, 0 by attention")] = 0.5
    variant: Annotated[
        Literal["paper", "code"],
        Choice(label="Form", help="paper: softmax(1 - |c|) · code: softmax(1 - c), positions numbered anew"),
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"transitions", "next_text_attention"})

    def renumbers(self, axes: int) -> bool:
        return self.variant == "code"

    def score(self, seen: Seen) -> Tensor:
        alive = seen.rows[seen.visual]
        value = torch.zeros(len(alive), device=alive.device)
        first = min(round(seen.layers * FIRST / DEPTH), seen.after - 1)
        for step in seen.signals["transitions"]:
            if step.layer >= first:
                value += self._value(step)[torch.searchsorted(step.rows, alive)]
        attention = seen.signals["next_text_attention"].mean((0, 1))[seen.visual]
        return self.alpha * _shares(value) + (1 - self.alpha) * _shares(attention)

    def _value(self, step: Transition) -> Tensor:
        """(R,) of every token of a layer."""
        cosine = step.cosine.abs() if self.variant == "paper" else step.cosine
        return (step.ratio * (1 - cosine).softmax(-1)).sum(0)

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return at_depth(STAGES, DEPTH, layers)


def _shares(values: Tensor) -> Tensor:
    return values / (values.sum() + 1e-8)
