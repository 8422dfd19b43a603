"""For whom a budget is: all images of a sample together, each image or clip, each tile of a tiled image, or each frame
of a clip, all alike or by what is new in it.

One budget for all lets a method spend it where it finds most, and may leave an image with nothing; a budget of its own
guarantees each image, tile or frame its share. Papers differ: IDPruner selects jointly, the LLaVA-NeXT recipes per
tile, most methods for clips per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pruning.budget import keep_count
from pruning.grids import Scope, parts
from pruning.joining import joined
from pruning.method import Method
from pruning.ops.clips import frame_novelty
from pruning.ops.quotas import share_out
from pruning.tokens import Selection, VisualTokens


def select_within(method: Method, tokens: VisualTokens, retention: float, per: Scope = "sample") -> Selection:
    """`method`'s selection at a retention ratio, with one budget for the sample, or one for each image or tile.

    Each part keeps `keep_count` of its own tokens, so at least one; by "novelty" the budget of the sample is shared out
    over the frames as `novel_budgets` says. The pick order takes the parts in turn: all first picks, all second picks,
    … Raises ValueError for an unknown `per`, and as `Method.select` does.
    """
    among = parts(tokens.grids, per)
    if len(among) == 1:
        return method.select(tokens, keep_count(tokens.n, retention))
    sizes = [grids[-1].stop - grids[0].start for grids in among]
    budgets = [keep_count(size, retention) for size in sizes]
    if per == "novelty":
        budgets = novel_budgets(tokens, keep_count(tokens.n, retention)).tolist()
    found = [
        (grids[0].start, method.select(tokens.part(grids), budget))
        for grids, budget in zip(among, budgets, strict=True)
        if budget
    ]
    return joined(found, tokens.n)


def novel_budgets(tokens: VisualTokens, budget: int) -> Tensor:
    """(F,) int64, how many tokens each frame of all clips keeps, `budget` in all; a picture is a clip of one frame.

    One for each frame where there are enough, the rest in proportion to ν_f, the mean over places p of
    1 - cos(x_{f,p}, x_{f-1,p}); a first frame is new altogether: ν = 1. Ties go to the earlier frame.
    """
    novelty, capacity = list[Tensor](), list[int]()
    for grid in tokens.grids:
        novelty.append(frame_novelty(tokens.features[grid.start : grid.stop].view(grid.t, grid.gh * grid.gw, -1)))
        capacity += [grid.gh * grid.gw] * grid.t
    room, wanted = torch.tensor(capacity), torch.cat(novelty)
    if budget < len(room):
        return share_out(wanted * budget / wanted.sum(), torch.ones_like(room), budget)
    return 1 + share_out(wanted / wanted.sum() * (budget - len(room)), room - 1, budget - len(room))


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
