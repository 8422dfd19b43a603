"""AIM, both halves: what merging left is pruned by PageRank over the language model's attention, down to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor

from pruning.ops.queries import Attention, blocks
from pruning.schedules import at_depth, fitted
from pruning.seen import Seen
from pruning.staged import StagedScore, register_staged

FIRST, STEPS, DEPTH = 15, 8, 28  # layers before the first cut, and cuts, of LLaVA-OneVision 7B
MERGED = 0.25  # of all tokens, what its merging leaves
SHARPNESS, ROUNDS = 10, 5  # 1 / temperature; steps of the walk


@register_staged
@dataclass(frozen=True)
class AIMInner(StagedScore):
    """Five steps of a walk along the attention, from everywhere: where it ends is what matters.

    Per head M = softmax(logits / 0.1) of layer K - 1, d = (1/n, ...), five times d <- d·M;  s_j = root mean square over
    heads of d_j. After each of layers 15..22 of 28 an eighth of the tokens that entered leaves.

    https://arxiv.org/abs/2412.03248
    softmax(logits / 0.1) is computed as the tenth power of the attention, normed: the same numbers.
    Differs from the release, which masks columns: tokens that left are no queries here either.
    """

    name: ClassVar[str] = "aim_inner"
    title: ClassVar[str] = "AIM (both halves)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2412.03248"
    venue: ClassVar[str] = "ICCV 2025"
    first: ClassVar[str] = "aim"
    merges: ClassVar[bool] = True
    drops_all: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Its schedule inside is fixed, at the same relative depth; the retention sets how far its first half merges. "
        "Tokens leave, where the release masks them. Slow: it reads all rows of the last layer at every cut, five "
        "times."
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"attention"})

    def score(self, seen: Seen) -> Tensor:
        n, attention = len(seen.rows), seen.signals["attention"]
        walk: Tensor | None = None  # (H, n)
        for _ in range(ROUNDS):
            walk = reduce(torch.add, _moved(attention, n, walk))
        assert walk is not None
        return walk.square().mean(0).sqrt()[seen.visual]

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return tuple((after, MERGED * share) for after, share in self._cuts(layers))

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        afters, shares = zip(*self._cuts(layers), strict=True)
        return fitted(lambda entering: [entering * share for share in shares], afters, n, layers, retention)

    def _cuts(self, layers: int) -> tuple[tuple[int, float], ...]:
        """Shares of what enters."""
        inside = tuple((FIRST + i, 1 - (i + 1) / STEPS) for i in range(STEPS))
        return (0, 1.0), *at_depth(inside, DEPTH, layers)


def _moved(attention: Attention, n: int, walk: Tensor | None) -> Iterator[Tensor]:
    """(H, n) for each block of tokens: where the share of the walk that is on them goes. None: it is everywhere."""
    for places, rows in blocks(attention, n):
        sharp = (rows / rows.amax(-1, keepdim=True)) ** SHARPNESS
        sharp = sharp / sharp.sum(-1, keepdim=True)
        there = sharp.new_full(sharp.shape[:2], 1 / n) if walk is None else walk[:, places.to(walk.device)]
        yield (there[:, None] @ sharp)[:, 0]
