"""Selections of parts of the tokens, each by itself, as one selection of all."""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.tokens import Selection


def joined(found: list[tuple[int, Selection]], n: int) -> Selection:
    """Selections of parts that start at the given tokens, as one of all n.

    The pick order takes the parts in turn. Scores are told where every part has them and nothing lies between parts.
    """
    picks = torch.cat([start + part.order for start, part in found])
    rank = torch.cat([torch.arange(part.k) for _, part in found])
    turn = rank.argsort(stable=True)
    scores = [part.scores for _, part in found]
    whole = sum(part.n for _, part in found) == n  # else a frame keeps nothing, and nobody has scored it
    merges = [
        torch.where(part.merge_into < 0, -1, part.merge_into + start)
        for start, part in found
        if part.merge_into is not None
    ]
    rows = [part.rows for _, part in found if part.rows is not None]
    return Selection(
        picks[turn],
        n,
        torch.cat([s for s in scores if s is not None]) if whole and all(s is not None for s in scores) else None,
        _spread(merges, [start for start, _ in found], n) if merges else None,
        torch.cat(rows)[turn] if rows else None,
    )


def _spread(parts: list[Tensor], starts: list[int], n: int) -> Tensor:
    """(n,) values of parts at their places, -1 where no part lies."""
    whole = torch.full((n,), -1, device=parts[0].device)
    for start, part in zip(starts, parts, strict=True):
        whole[start : start + len(part)] = part
    return whole
