"""How K places are spread over the rows and columns of a grid: whole numbers alone."""

from __future__ import annotations


def shares(total: int, parts: int) -> list[int]:
    """`total` in `parts` whole numbers that differ by at most 1.

    >>> shares(7, 3)
    [2, 2, 3]
    """
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def spans(size: int, parts: int) -> list[range]:
    """0..size-1 in `parts` <= size stretches whose lengths differ by at most 1.

    >>> spans(5, 2)
    [range(0, 2), range(2, 5)]
    """
    return [range(size * part // parts, size * (part + 1) // parts) for part in range(parts)]


def rows_for(k: int, high: int, wide: int) -> int:
    """Over how many of `high` rows, each of `wide` places, k places are spread: about sqrt(k · high / wide).

    >>> rows_for(48, 12, 16), rows_for(1, 12, 16), rows_for(192, 12, 16)
    (6, 1, 12)
    """
    return min(high, k, max(1, -(-k // wide), round((k * high / wide) ** 0.5)))
