"""Compiled loop of `ops.lazy` on numpy arrays that walks down a ranking: no N×N matrix.

N  tokens    D  their width    K  picks
"""

from __future__ import annotations

import numpy as np

from pruning.ops.kernels import compiled
from pruning.ops.lazy_kernels import bracket, cosine


@compiled
def struck(x, token, kept, taken, reach, count):  # type: ignore[no-untyped-def]
    """Whether one of the first `count` taken tokens of a `Coded` lies closer to a token than its reach."""
    for t in range(count - 1, -1, -1):
        low, high = bracket(x, token, kept[t], taken[t])
        if np.float32(1) - high >= reach[t]:
            continue
        if np.float32(1) - low < reach[t] or np.float32(1) - cosine(x, token, taken[t]) < reach[t]:
            return True
    return False


@compiled
def thin_out(x, ranked, reach, order):  # type: ignore[no-untyped-def]
    """Fill `order` (K,) with the walk of `ops.thin_out` over the tokens of a `Coded`.

    ranked (N,) int64, reach (N,) float32. A token is compared with those taken before it, until one strikes it out.
    """
    n, k = ranked.shape[0], order.shape[0]
    kept = np.empty((k, x.codes.shape[1]), np.int8)  # side by side, as they are read
    far = np.empty(k, np.float32)
    left = np.empty(n, np.int64)
    count, over = 0, 0
    for place in range(n):
        if count == k:
            return
        token = ranked[place]
        if struck(x, token, kept, order, far, count):
            left[over] = token
            over += 1
            continue
        order[count], kept[count], far[count] = token, x.codes[token], reach[place]
        count += 1
    order[count:] = left[: k - count]
