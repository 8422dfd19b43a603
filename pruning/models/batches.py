"""What goes through a model together: the media of one question, and prompts that are ready for the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pruning.grids import Grid
from pruning.models.values import Encoded, Kept, Kind, Prompt, Rows
from pruning.plan import Plan
from pruning.signals import joined_signal, part_of_signal
from pruning.tokens import VisualTokens

IMAGE: tuple[Kind, ...] = ("image",)
NONE: tuple[tuple[int, ...], ...] = ((),)  # of a picture, no frame was taken
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
    """The rows of several prompts, one after the other."""
    levels = zip(*(r.deepstack for r in rows), strict=True)
    features = torch.cat([r.features for r in rows])
    none = all(r.video is None for r in rows)
    video = [torch.zeros(len(r.features), dtype=torch.bool) if r.video is None else r.video for r in rows]
    stacked = frozenset[Kind]().union(*(r.stacked for r in rows))
    return Rows(features, tuple(torch.cat(level) for level in levels), stacked, None if none else torch.cat(video))


def together(parts: Sequence[Encoded]) -> Encoded:
    """Media of one question that went through the tower apart, as one encoding: pictures, and clips behind them."""
    if len(parts) == 1:
        return parts[0]
    grids, images, tokens = list[Grid](), 0, 0
    places, rows = list[Tensor](), 0
    for part in parts:
        moved = [replace(grid, start=grid.start + tokens, image=grid.image + images) for grid in part.tokens.grids]
        grids += moved
        places.append(rows + (torch.arange(part.tokens.n) if part.places is None else part.places))
        images, tokens, rows = images + len(part.sizes), tokens + part.tokens.n, rows + part.rows_count
    names = parts[0].tokens.signals
    signals = {name: joined_signal(name, [part.tokens.signals[name] for part in parts]) for name in names}
    marks = [part.marks for part in parts if part.marks is not None]
    levels = zip(*(part.deepstack for part in parts), strict=True)
    left_out = any(part.taken for part in parts)
    video = [torch.zeros(part.rows_count, dtype=torch.bool) if part.video is None else part.video for part in parts]
    return Encoded(
        VisualTokens(torch.cat([part.tokens.features for part in parts]), tuple(grids), signals),
        np.concatenate([part.rects for part in parts]),
        tuple(size for part in parts for size in part.sizes),
        sum(part.encode_s for part in parts),
        tuple(text for part in parts for text in part.texts),
        {name: value for part in parts for name, value in part.side.items()},
        torch.cat(places) if marks else None,
        torch.cat(marks) if marks else None,
        tuple(torch.cat(level) for level in levels),
        frozenset[Kind]().union(*(part.stacked for part in parts)),
        sum(part.patches for part in parts),
        max(part.strangeness for part in parts),
        tuple(kind for part in parts for kind in part.kinds or IMAGE * len(part.sizes)),
        torch.cat(video) if any(part.video is not None for part in parts) else None,
        tuple(frames for part in parts for frames in part.taken or NONE * len(part.sizes)) if left_out else (),
    )


def apart(whole: Encoded, images: Sequence[int]) -> list[Encoded]:
    """Pictures of several questions that lay one behind the other in the tower, so many of each, question by question.

    Nothing of the whole is held on to. Each has its share of the seconds; strangeness is that of the whole.
    """
    parts, first = list[Encoded](), 0
    for count in images:
        last = first + count
        own = [grid for grid in whole.tokens.grids if first <= grid.image < last]
        at = slice(own[0].start, own[-1].stop)
        grids = tuple(replace(grid, start=grid.start - at.start, image=grid.image - first) for grid in own)
        signals = {name: part_of_signal(name, value, at).clone() for name, value in whole.tokens.signals.items()}
        share = (at.stop - at.start) / whole.tokens.n
        parts.append(
            replace(
                whole,
                tokens=VisualTokens(whole.tokens.features[at].clone(), grids, signals),
                rects=whole.rects[at].copy(),
                sizes=whole.sizes[first:last],
                encode_s=whole.encode_s * share,
                texts=whole.texts[first:last],
                side={name: value[first:last].clone() for name, value in whole.side.items()},
                deepstack=tuple(level[at].clone() for level in whole.deepstack),
                patches=round(whole.patches * share),
            )
        )
        first = last
    return parts
