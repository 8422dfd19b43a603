"""For whom a budget is: all images of a sample together, each image, or each tile of a tiled image.

One budget for all lets a method spend it where it finds most, and may leave an image with nothing; a budget of its own
guarantees each image or tile its share. Papers differ: IDPruner selects jointly, the LLaVA-NeXT recipes per tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pruning.budget import keep_count
from pruning.grids import Scope, parts
from pruning.method import Method
from pruning.tokens import Selection, VisualTokens


def select_within(method: Method, tokens: VisualTokens, retention: float, per: Scope = "sample") -> Selection:
    """`method`'s selection at a retention ratio, with one budget for the sample, or one for each image or tile.

    Each part keeps `keep_count` of its own tokens, so at least one. The pick order takes the parts in turn: all first
    picks, all second picks, … Raises ValueError for an unknown `per`, and as `Method.select` does.
    """
    among = parts(tokens.grids, per)
    if len(among) == 1:
        return method.select(tokens, keep_count(tokens.n, retention))
    found = []
    for grids in among:
        part = tokens.part(grids)
        found.append((grids[0].start, method.select(part, keep_count(part.n, retention))))
    return _joined(found, tokens.n)


def selector(
    method: Method, tokens: VisualTokens, retentions: Sequence[float], per: Scope = "sample"
) -> Callable[[float], Selection]:
    """`select_within` for several retention ratios: a function of one of them.

    A nested method with one budget for all tokens runs once, here; its selections are prefixes of that one. Raises
    ValueError as `select_within`, the function too.
    """
    if not (method.nested and len(parts(tokens.grids, per)) == 1):
        return lambda retention: select_within(method, tokens, retention, per)
    longest = method.select(tokens, max(keep_count(tokens.n, retention) for retention in retentions))
    return lambda retention: longest.prefix(keep_count(tokens.n, retention))


def _joined(found: list[tuple[int, Selection]], n: int) -> Selection:
    """Selections of parts that start at the given tokens, as one of all n."""
    picks = torch.cat([start + part.order for start, part in found])
    rank = torch.cat([torch.arange(part.k) for _, part in found])
    turn = rank.argsort(stable=True)
    scores = [part.scores for _, part in found]
    merges = [
        torch.where(part.merge_into < 0, -1, part.merge_into + start)
        for start, part in found
        if part.merge_into is not None
    ]
    rows = [part.rows for _, part in found if part.rows is not None]
    return Selection(
        picks[turn],
        n,
        torch.cat([s for s in scores if s is not None]) if all(s is not None for s in scores) else None,
        torch.cat(merges) if merges else None,
        torch.cat(rows)[turn] if rows else None,
    )
