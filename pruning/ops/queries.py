"""Sums over all queries of an attention map that nobody stores: a block of rows is made, added and let go.

`attention` below is a function, (r,) places -> (H, r, n) float32 rows of the map after the softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce

import torch
from torch import Tensor

Attention = Callable[[Tensor], Tensor]
ENTRIES = 1 << 22  # of a block of rows: 16 MiB


def blocks(attention: Attention, n: int, places: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """(places (r,), their rows (H, r, n)), a block at a time, over all n tokens or those of `places`."""
    left = torch.arange(n) if places is None else places
    size = max(1, ENTRIES // (n * 16))
    for part in left.split(size):
        yield part, attention(part)


def received(attention: Attention, n: int) -> Tensor:
    """(n,) what each token receives: the sum over heads and queries.

    >>> received(lambda rows: torch.eye(3)[None, rows], 3).tolist()
    [1.0, 1.0, 1.0]
    """
    return reduce(torch.add, (rows.sum((0, 1)) for _, rows in blocks(attention, n)))
