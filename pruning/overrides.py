"""What a person forces in or out, within the budget that the method was given."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from pruning.tokens import Selection


def with_overrides(
    chosen: Selection, preferred: Selection, forced_in: Collection[int], forced_out: Collection[int]
) -> Selection:
    """`chosen` with some tokens forced, at the same budget K: the forced ones first, then its own picks in their order.

    preferred: the method's order of all N tokens; where forced-out picks leave a gap, it is filled from there. Merges
    are undone: which token absorbs which was decided for other neighbours.

    Raises ValueError for indices outside 0..N-1, a token forced both ways, more forced in than K, or fewer than K left.
    """
    n, k = chosen.n, chosen.k
    ins, outs = dict.fromkeys(forced_in), set(forced_out)
    wrong = [i for i in (*ins, *outs) if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < n]
    if wrong:
        raise ValueError(f"token {wrong[0]!r} cannot be forced: tokens are numbered 0 to {n - 1}")
    if both := sorted(outs & ins.keys()):
        raise ValueError(f"token {both[0]} is forced in and out: choose one")
    if len(ins) > k:
        raise ValueError(f"{len(ins)} tokens are forced in but the budget is {k}: release some or keep more tokens")
    if n - len(outs) < k:
        raise ValueError(f"{len(outs)} tokens are forced out, which leaves {n - len(outs)} for a budget of {k}")
    if not ins and not outs:
        return chosen
    candidates = dict.fromkeys([*ins, *chosen.order.tolist(), *completed(preferred).tolist()])
    order = [i for i in candidates if i not in outs][:k]
    return Selection(torch.tensor(order), n, chosen.scores)


def completed(selection: Selection) -> Tensor:
    """(N,) int64: its picks, and behind them all that it does not keep, by index: where a method has a budget of its
    own, its order of all tokens ends early.

    >>> completed(Selection(torch.tensor([3, 1]), 4)).tolist()
    [3, 1, 0, 2]
    """
    return torch.cat([selection.order, (~selection.mask).nonzero()[:, 0]])
