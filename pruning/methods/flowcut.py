"""FlowCut: attention, meaning and strength of a token's value, accumulated over layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning import ops
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.params import Choice, Range
from pruning.tokens import Selection, VisualTokens


@register
@dataclass(frozen=True)
class FlowCut(Method):
    """Tokens leave layer by layer, those first into which little information flows.

    In each layer, over the n tokens alive:  S_j = (A_j / sum A + I_j / sum I)·||v_j||_1,  C = S at first, then
    C <- C/2 + S/2. A_j: attention CLS -> j; I_j = mean_h softmax_j(v_cls^h · v_j^h); v_j: mean of v_j^h over heads h.
    With m layers still to come, m even, the P lowest C leave, P = round((n - K) / √m · (1 - (H(A) / ln n)²)), H the
    entropy; at m = 0 all but the K highest.

    https://arxiv.org/abs/2505.19536
    variant "code", the default: S_j = A_j / sum A · ||v_j||_1, the released form for Qwen2-VL. "paper" has I, but no
    model here gives the value of CLS, so v_cls is the mean value of the tokens alive: where most of them show
    background, I favours the background.
    Our adaptation, post-hoc: the tower runs in full, and the cuts are made afterwards on its last `layers` layers, so a
    token that left still shaped the others' later attention. Layers that see the whole picture count as the last. The
    cut inside the language model is left out.
    """

    name: ClassVar[str] = "flowcut"
    title: ClassVar[str] = "FlowCut (post-hoc)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2505.19536"
    venue: ClassVar[str] = "NeurIPS 2025"
    nested: ClassVar[bool] = False
    adaptation: ClassVar[str] = "Cuts on the last layers after a full pass, where the paper cuts in all while it runs."

    layers: Annotated[int, Range(1, 22, 1, label="Layers", help="last vision layers; the paper takes 22 of 24")] = 3
    variant: Annotated[
        Literal["paper", "code"],
        Choice(
            label="Form", help="code: by attention, as released for Qwen2-VL · paper: and by likeness to the mean value"
        ),
    ] = "code"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(f"vision_{kind}@{-1 - i}" for kind in ("attention", "values") for i in range(self.layers))

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        alive = torch.arange(tokens.n, device=tokens.features.device)
        scores = torch.zeros(tokens.n, device=tokens.features.device)
        for left in reversed(range(self.layers)):
            attention = scaling.share(tokens.signal(f"vision_attention@{-1 - left}").float()[alive])
            flow = self._flow(attention, tokens.signal(f"vision_values@{-1 - left}").float()[alive])
            scores[alive] = flow if left == self.layers - 1 else (scores[alive] + flow) / 2
            if left % 2 == 0:
                count = survivors(attention, budget, left)
                alive = alive[ops.topk(scores[alive], count)].sort().values
        return Selection(alive[ops.topk(scores[alive], budget)], tokens.n, scores)

    def _flow(self, attention: Tensor, values: Tensor) -> Tensor:
        """attention (n,) summing to 1, values (n, H, d) -> (n,) S."""
        if self.variant == "paper":
            attention = attention + meaning(values, values.mean(dim=0))
        return attention * strength(values)


def meaning(values: Tensor, cls: Tensor) -> Tensor:
    """values (n, H, d), of CLS (H, d) -> (n,) I, which sums to 1."""
    return (values * cls).sum(dim=2).softmax(dim=0).mean(dim=1)


def strength(values: Tensor) -> Tensor:
    """values (n, H, d) -> (n,) ||v||_1 of the mean over heads."""
    return values.mean(dim=1).abs().sum(dim=1)


def survivors(attention: Tensor, budget: int, left: int) -> int:
    """How many of the n alive stay, `budget` at least, with `left` layers still to come. attention: (n,), sum 1."""
    n = len(attention)
    if left == 0 or n == budget:
        return budget
    focus = 1 - (float(torch.special.entr(attention).sum()) / math.log(n)) ** 2
    return max(budget, n - round((n - budget) / math.sqrt(left) * focus))
