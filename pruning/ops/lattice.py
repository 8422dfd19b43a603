"""How K places are spread over the rows and columns of a grid: whole numbers alone."""

from __future__ import annotations

from pruning.grids import Grid


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


def centres(size: int, k: int) -> list[int]:
    """k <= size distinct places in 0..size-1: the centres of k equal parts.

    >>> centres(8, 2)
    [2, 6]
    """
    return [(2 * part + 1) * size // (2 * k) for part in range(k)]


def spread(grid: Grid, k: int) -> list[int]:
    """k of a grid's tokens: over its frames, their rows, and the places in each row."""
    picks: list[int] = []
    for frame, in_frame in zip(centres(grid.t, min(k, grid.t)), shares(k, min(k, grid.t)), strict=True):
        rows = rows_for(in_frame, grid.gh, grid.gw)
        for row, in_row in zip(centres(grid.gh, rows), shares(in_frame, rows), strict=True):
            at = grid.start + (frame * grid.gh + row) * grid.gw
            picks += [at + column for column in centres(grid.gw, in_row)]
    return picks
