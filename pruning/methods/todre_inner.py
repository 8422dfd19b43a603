"""ToDRE, both stages: late in the language model, where pictures and text no longer look at each other, all leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning.ops.queries import Attention, blocks
from pruning.params import Range
from pruning.schedules import fitted
from pruning.seen import Choice, Seen
from pruning.staged import StagedMethod, register_staged

ENTERING = 0.1  # of all tokens, what its first stage leaves


@register_staged
@dataclass(frozen=True)
class ToDREInner(StagedMethod):
    """After ⌊7L/8⌋ layers all visual tokens leave, if both kinds pay each other less than τ of their attention.

    a(t -> v) = mean over text tokens of what they pay all visual ones, head mean of the last layer; a(v -> t) likewise.

    https://arxiv.org/abs/2505.18757
    Text is all that is no visual token, before the picture too. Visual tokens see only that text.
    """

    name: ClassVar[str] = "todre_inner"
    title: ClassVar[str] = "ToDRE (both stages)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2505.18757"
    venue: ClassVar[str] = "arXiv 2025"
    first: ClassVar[str] = "todre"
    drops_all: ClassVar[bool] = True
    all_or_none: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "The paper does not say which layer's attention it reads, nor how 7L/8 is rounded: here the last layer before "
        "the cut, rounded down. The retention is met if all leave there; where none leave, more is alive than asked "
        "for, and the answer says so."
    )

    threshold: Annotated[float, Range(0, 1, 0.01, label="τ", help="0: nothing leaves, 1: everything does")] = 0.1

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"attention"})

    def pick(self, seen: Seen, k: int) -> Choice:
        attention, n = seen.signals["attention"], len(seen.rows)
        visual = torch.zeros(n, dtype=torch.bool, device=seen.rows.device)
        visual[seen.visual] = True
        apart = all(_given(attention, n, one, ~one) < self.threshold for one in (visual, ~visual))
        everyone = torch.arange(len(seen.tokens), device=seen.tokens.device)
        return Choice(everyone[:0] if apart else everyone)

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return (0, ENTERING), (layers * 7 // 8, 0.0)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        return fitted(lambda entering: [entering, 0.0], [0, layers * 7 // 8], n, layers, retention)


def _given(attention: Attention, n: int, by: Tensor, to: Tensor) -> float:
    """Mean over the tokens `by` (n,) of the attention that they pay those of `to` (n,)."""
    total = sum(float(rows.mean(0)[:, to].sum()) for _, rows in blocks(attention, n, by.nonzero()[:, 0]))
    return total / int(by.sum())
