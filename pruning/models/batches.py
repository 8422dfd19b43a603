"""Prompts that are ready for the language model, and which of them go through it together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.models.values import Encoded, Kept, Prompt, Rows
from pruning.plan import Plan

PADDING = 1.25  # work of a batch over that of its prompts alone, at most


@dataclass(frozen=True, eq=False)
class Ready:
    """One prompt as it goes into the language model. kept: a plan with its entry made; indices: (K,) what enters."""

    encoded: Encoded
    kept: Kept
    indices: Tensor
    prompt: Prompt
    rows: Rows

    def alive(self, layers: int) -> tuple[int, ...]:
        """(L,) tokens of the prompt that each layer processes. Raises ValueError as `Plan.counts`."""
        if not isinstance(self.kept, Plan):
            return (self.prompt.n,) * layers
        text = self.prompt.n - len(self.indices)
        return tuple(text + count for count in self.kept.alive(len(self.indices), layers))


def alike_batches(alive: Sequence[tuple[int, ...]], size: int) -> list[list[int]]:
    """Which prompts go through together, at most `size`: those whose padding is no more than a quarter of the work.

    alive: of each (L,) tokens that each layer processes. Every one in exactly one batch; the shortest come first.
    """
    batches = list[list[int]]()
    for i in sorted(range(len(alive)), key=lambda i: (sum(alive[i]), alive[i])):
        batch = [*batches[-1], i] if batches else [i]
        padded = len(batch) * sum(max(alive[j][layer] for j in batch) for layer in range(len(alive[i])))
        if batches and len(batch) <= size and padded <= PADDING * sum(sum(alive[j]) for j in batch):
            batches[-1] = batch
        else:
            batches.append([i])
    return batches


def joined(rows: Sequence[Rows]) -> Rows:
    """The rows of several prompts, one after the other. Raises ValueError for pictures beside clips."""
    if len({r.moving for r in rows}) > 1:
        raise ValueError("questions about pictures and about clips do not go through together: ask them one by one")
    levels = zip(*(r.deepstack for r in rows), strict=True)
    features = torch.cat([r.features for r in rows])
    return Rows(features, tuple(torch.cat(level) for level in levels), rows[0].stacked, rows[0].moving)
