"""From an equivalent retention to the counts of a schedule, and back. Knows neither models nor rules.

Equivalent retention = mean over the L layers of the share of the N visual tokens that a layer processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pruning.budget import keep_count

QUARTERS = ((1, 0.5), (2, 0.25), (3, 0.125))  # PyramidDrop's cuts, in quarters of the depth, with λ = 0.5
STEPS = 60  # halvings of an interval: to the last bit of a double


def equivalent(afters: Sequence[int], counts: Sequence[float], n: float, layers: int) -> float:
    """Equivalent retention of cuts after `afters` layers, in order, that keep `counts` of n tokens."""
    alive, total, before = n, 0.0, 0
    for after, count in zip(afters, counts, strict=True):
        total += alive * (after - before)
        alive, before = count, after
    return (total + alive * (layers - before)) / (layers * n)


def fitted(
    shares: Callable[[float], Sequence[float]], afters: Sequence[int], n: int, layers: int, retention: float
) -> tuple[int, ...]:
    """Counts of cuts whose shares of N grow with one number x in 0..1, for the x that comes to `retention`.

    Shares above 1 count as 1. Each cut keeps at most what the one before it does, and at least one token, unless its
    share is 0.
    """

    def counts(x: float) -> list[int]:
        found = [n]
        for share in shares(x):
            found.append(min(found[-1], keep_count(n, min(1.0, share)) if share > 0 else 0))
        return found[1:]

    low, high = 1e-12, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        short = equivalent(afters, counts(middle), n, layers) < retention
        low, high = (middle, high) if short else (low, middle)

    # Counts are whole numbers, so the two ends differ by a token: the nearer one.
    below, above = counts(low), counts(high)
    gaps = [abs(equivalent(afters, tried, n, layers) - retention) for tried in (below, above)]
    return tuple(below if gaps[0] <= gaps[1] else above)


def pyramid(afters: Sequence[int], n: int, layers: int, retention: float) -> tuple[int, ...]:
    """Counts N·λ, N·λ², … for the λ that comes to `retention`."""
    return fitted(lambda x: [x ** (s + 1) for s in range(len(afters))], afters, n, layers, retention)


def scaled(published: Sequence[float], afters: Sequence[int], n: int, layers: int, retention: float) -> tuple[int, ...]:
    """Counts of the published shares times one factor, each at most 1: the factor that comes to `retention`."""
    most = 1 / min(share for share in published if share)
    return fitted(lambda x: [x * most * share for share in published], afters, n, layers, retention)


def at_depth(published: Sequence[tuple[int, float]], of: int, layers: int) -> tuple[tuple[int, float], ...]:
    """Cuts published for a model of `of` layers, in one of L >= 2: at the same relative depth, rounded, within 1..L-1.

    Where two fall together, the later one stays.
    """
    found: dict[int, float] = {}
    for after, share in published:
        found[min(layers - 1, max(1, math.floor(layers * after / of + 0.5)))] = share
    return tuple(found.items())
