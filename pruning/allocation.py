"""For whom a budget is: all images of a sample together, each image, or each tile of a tiled image.

One budget for all lets a method spend it where it finds most, and may leave an image with nothing; a budget of its own
guarantees each image or tile its share. Papers differ: IDPruner selects jointly, the LLaVA-NeXT recipes per tile.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Literal, get_args

import torch

from pruning.budget import keep_count
from pruning.method import Method
from pruning.signals import part_of_signal
from pruning.tokens import Grid, Selection, VisualTokens

Scope = Literal["sample", "image", "tile"]
SCOPES: tuple[str, ...] = get_args(Scope)


def select_within(method: Method, tokens: VisualTokens, retention: float, per: Scope = "sample") -> Selection:
    """`method`'s selection at a retention ratio, with one budget for the sample, or one for each image or tile.

    Each part keeps `keep_count` of its own tokens, so at least one. The pick order takes the parts in turn: all first
    picks, all second picks, … Raises ValueError for an unknown `per`, and as `Method.select` does.
    """
    if per not in SCOPES:
        raise ValueError(f"the budget cannot be per {per!r}: it must be one of {', '.join(SCOPES)}")
    parts = _parts(tokens.grids, per)
    if len(parts) == 1:
        return method.select(tokens, keep_count(tokens.n, retention))
    found = []
    for grids in parts:
        piece = part_of(tokens, grids)
        found.append((grids[0].start, method.select(piece, keep_count(piece.n, retention))))
    return _joined(found, tokens.n)


def part_of(tokens: VisualTokens, grids: tuple[Grid, ...]) -> VisualTokens:
    """The tokens of neighbouring grids as a sample of their own, signals included."""
    start, stop = grids[0].start, grids[-1].stop
    signals = {name: part_of_signal(name, value, slice(start, stop)) for name, value in tokens.signals.items()}
    moved = tuple(replace(grid, start=grid.start - start) for grid in grids)
    return VisualTokens(tokens.features[start:stop], moved, signals)


def _parts(grids: tuple[Grid, ...], per: Scope) -> list[tuple[Grid, ...]]:
    if per == "sample":
        return [grids]
    if per == "tile":
        return [(grid,) for grid in grids]
    return [tuple(group) for _, group in groupby(grids, lambda grid: grid.image)]


def _joined(parts: list[tuple[int, Selection]], n: int) -> Selection:
    """Selections of parts that start at the given tokens, as one of all n."""
    picks = torch.cat([start + part.order for start, part in parts])
    rank = torch.cat([torch.arange(part.k) for _, part in parts])
    turn = rank.argsort(stable=True)
    scores = [part.scores for _, part in parts]
    merges = [
        torch.where(part.merge_into < 0, -1, part.merge_into + start)
        for start, part in parts
        if part.merge_into is not None
    ]
    rows = [part.rows for _, part in parts if part.rows is not None]
    return Selection(
        picks[turn],
        n,
        torch.cat([s for s in scores if s is not None]) if all(s is not None for s in scores) else None,
        torch.cat(merges) if merges else None,
        torch.cat(rows)[turn] if rows else None,
    )
