"""From a retention ratio to a token count: the only rounding in the project.

Does not know what the tokens are. Everywhere in this project a ratio is the share that is *kept*.
"""

from __future__ import annotations

import math
from numbers import Real


def check_retention(retention: float) -> float:
    """Return `retention` as a float. Raises ValueError unless it is a number with 0 < retention <= 1.

    >>> check_retention(1)
    1.0
    >>> check_retention(0)
    Traceback (most recent call last):
        ...
    ValueError: retention ratio 0 is not allowed: ...
    """
    if isinstance(retention, bool) or not isinstance(retention, Real) or not 0 < retention <= 1:
        raise ValueError(
            f"retention ratio {retention!r} is not allowed: it is the share of visual tokens that is kept and must be "
            "a number above 0 and at most 1, for example 0.25 to keep a quarter"
        )
    return float(retention)


def keep_count(n: int, retention: float) -> int:
    """How many of `n` visual tokens a retention ratio keeps: n * retention rounded half up, within 1..n.

    Raises ValueError when `n` is not a positive integer or `retention` is not in (0, 1].

    >>> keep_count(256, 0.25), keep_count(10, 0.25), keep_count(10, 0.01)
    (64, 3, 1)
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"token count {n!r} is not allowed: it must be a whole number of at least 1")
    exact = n * check_retention(retention)
    # 0.1 + 0.2 and kin: a product that misses a half by rounding error alone still counts as that half.
    return min(n, max(1, math.floor(exact + 0.5 + 1e-9 * max(1.0, exact))))


def check_budget(budget: int, n: int) -> int:
    """Return `budget`. Raises ValueError unless it is a whole number within 1..n.

    >>> check_budget(64, 256)
    64
    >>> check_budget(0, 256)
    Traceback (most recent call last):
        ...
    ValueError: budget 0 is not allowed: ...
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or not 1 <= budget <= n:
        raise ValueError(
            f"budget {budget!r} is not allowed: with {n} visual tokens it must be a whole number from 1 to {n}; "
            "keep_count(n, retention) turns a ratio into such a number"
        )
    return budget


def retention_of(budget: int, n: int) -> float:
    """The shortest decimal ratio, of two digits or more, that keeps exactly `budget` of `n` tokens.

    `keep_count(n, retention_of(budget, n)) == budget`, so a control that holds ratios reaches every budget. Raises
    ValueError as `check_budget`.

    >>> retention_of(64, 256), retention_of(85, 256)
    (0.25, 0.332)
    """
    check_budget(budget, n)
    for digits in range(2, 16):
        ratio = round(budget / n, digits)
        if ratio > 0 and keep_count(n, ratio) == budget:
            return ratio
    return budget / n
