"""What a page says, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pruning.scenes.drawn import pick, some
from pruning.scenes.words import (
    COLUMNS,
    DIRECTIONS,
    FORM_NUMBERS,
    FORM_WORDS,
    ITEMS,
    PEOPLE,
    PLACES,
    SUMS,
    invent,
)

KINDS: Final = ("receipt", "table", "form", "sign", "notice")


@dataclass(frozen=True)
class Page:
    """What is read, in lower case, from top to bottom.

    `title`: the heading or ""; `head`: names of a table's columns. `rows`: the lines below, each its cells from left to
    right; on receipts, tables and forms the first cell is the key. `arrow`: where a sign's arrow points, or "".
    """

    kind: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    arrow: str = ""

    @property
    def keyed(self) -> bool:
        """Whether the first cell of every row names the others."""
        return self.kind in ("receipt", "table", "form")

    @property
    def items(self) -> tuple[tuple[str, ...], ...]:
        """A receipt's rows without its sums; none of any other page."""
        return tuple(row for row in self.rows if row[0] in ITEMS) if self.kind == "receipt" else ()


def compose(rng: np.random.Generator, lines: int, cells: int) -> Page:
    """A page of at most `lines` lines with the title, and at most `cells` characters across."""
    kind = pick(rng, KINDS)
    title = invent(rng, 3, min(8, cells - 2)) if kind == "notice" or (kind != "sign" and rng.random() < 0.7) else ""
    room = max(lines - bool(title) - (kind == "table"), 2)
    if kind == "receipt":
        return Page(kind, title, (), _receipt(rng, room))
    if kind == "table":
        columns = tuple(some(rng, COLUMNS, int(rng.integers(1, 3 if cells < 22 else 4))))
        names = some(rng, PEOPLE if rng.random() < 0.6 else ITEMS, int(rng.integers(2, min(room, 8) + 1)))
        return Page(kind, title, columns, tuple((n, *(_number(rng, 3) for _ in columns)) for n in names))
    if kind == "form":
        return Page(kind, title, (), _form(rng, room, cells))
    if kind == "sign":
        rows = _sign(rng, min(room, 3))
        return Page(kind, "", (), rows, pick(rng, DIRECTIONS) if rng.random() < 0.6 else "")
    rows = tuple(_sentence(rng, cells) for _ in range(int(rng.integers(1, min(room, 6) + 1))))
    return Page(kind, title, (), rows)


def _number(rng: np.random.Generator, digits: int) -> str:
    return str(int(rng.integers(0, 10 ** int(rng.integers(1, digits + 1)))))


def _cents(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _receipt(rng: np.random.Generator, room: int) -> tuple[tuple[str, ...], ...]:
    """Items with prices, then a total that is their sum, sometimes with tax before and cash and change after."""
    extra = [name for name in ("tax", "tip") if rng.random() < 0.3 and room > 4]
    paid = room > 6 and rng.random() < 0.4
    names = some(rng, ITEMS, int(rng.integers(1, max(min(room - 1 - len(extra) - 2 * paid, 8), 1) + 1)))
    cents = [int(rng.integers(4, 200)) * 5 if rng.random() < 0.7 else int(rng.integers(20, 2000)) for _ in names]
    more = [int(rng.integers(10, 300)) for _ in extra]
    total = sum(cents) + sum(more)
    rows = [*zip(names, cents, strict=True), *zip(extra, more, strict=True), ("total", total)]
    if paid:
        cash = -(-total // 500) * 500
        rows += [("cash", cash), ("change", cash - total)]
    return tuple((name, _cents(value)) for name, value in rows)


def _form(rng: np.random.Generator, room: int, cells: int) -> tuple[tuple[str, ...], ...]:
    keys = some(rng, FORM_WORDS + FORM_NUMBERS, int(rng.integers(2, min(room, 7) + 1)))
    rows = []
    for key in keys:
        if key in FORM_WORDS:
            value = invent(rng, 3, max(min(10, cells - 9), 4))
        elif key == "date":
            value = f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}"
        elif key == "time":
            value = f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}"
        elif key == "price":
            value = _cents(int(rng.integers(50, 10000)))
        elif key == "phone":
            value = f"{rng.integers(10, 100)}-{rng.integers(100, 10000)}"
        else:
            value = str(rng.integers(1, 10000 if key == "code" else 100))
        rows.append((key, value))
    return tuple(rows)


def _sign(rng: np.random.Generator, room: int) -> tuple[tuple[str, ...], ...]:
    rows: list[tuple[str, ...]] = [(invent(rng, 3, 8),)]
    for place in some(rng, PLACES, int(rng.integers(0, room))):
        rows.append((place, str(rng.integers(1, 100))))
    order = rng.permutation(len(rows))
    return tuple(rows[int(i)] for i in order)


def _sentence(rng: np.random.Generator, cells: int) -> tuple[str, ...]:
    words: list[str] = []
    for _ in range(int(rng.integers(1, 4))):
        word = invent(rng, 2, 7) if rng.random() < 0.85 else _number(rng, 3)
        if sum(map(len, words)) + len(words) + len(word) <= cells:
            words.append(word)
    return tuple(words) or (invent(rng, 3, 4),)


def known(word: str) -> bool:
    """Whether `word` may stand in a question as the key of a row."""
    return word in {*ITEMS, *SUMS, *FORM_WORDS, *FORM_NUMBERS, *PEOPLE, *PLACES}
