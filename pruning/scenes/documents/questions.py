"""Questions about a page, five families, each with one right answer that is read off it.

`value`: what belongs to a key. `word`: a word at a named place, spelled out. `line`: which line something is in, or
what stands next to it. `count`: lines, items, words. `presence`: yes or no.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from pruning.scenes.documents.pages import Page
from pruning.scenes.drawn import Drawn, pick
from pruning.scenes.questions import Question
from pruning.scenes.words import (
    COLUMNS,
    DIRECTIONS,
    FORM_NUMBERS,
    FORM_WORDS,
    ITEMS,
    PEOPLE,
    PLACES,
    SUMS,
    article,
)

FAMILIES: Final = ("value", "word", "line", "count", "presence")


def ask(picture: Drawn, rng: np.random.Generator, family: str) -> Question | None:
    """One random question of `family` about `picture`; None where the page has nothing to ask about."""
    page: Page = picture.facts
    asks = list(
        {"value": _values, "word": _words, "line": _lines, "count": _counts, "presence": _presence}[family](page)
    )
    if not asks:
        return None
    if family == "presence":  # as many yes as no
        wanted = "yes" if rng.random() < 0.5 else "no"
        asks = [(text, answer) for text, answer in asks if answer == wanted] or asks
    return Question(*pick(rng, asks), family)


def _values(page: Page) -> Iterator[tuple[str, str]]:
    if page.kind == "table":
        for name, *cells in page.rows:
            for column, cell in zip(page.head, cells, strict=True):
                yield f"what is the {column} of {name}?", cell
        return
    for row in page.rows:
        if len(row) == 2 and page.kind != "notice":
            if row in page.items:
                yield f"what is the price of {row[0]}?", row[1]
                yield f"how much is the {row[0]}?", row[1]
            else:
                yield f"what is the {row[0]}?", row[1]


def _words(page: Page) -> Iterator[tuple[str, str]]:
    if page.title:
        yield "what is the title?", page.title
    if page.kind == "sign":
        yield "what does the sign say?", next(row[0] for row in page.rows if len(row) == 1)
    if page.kind == "sign" and page.arrow:
        yield "where does the arrow point to?", page.arrow
    for number, row in enumerate(page.rows, 1):
        if page.kind == "notice":
            yield f"what is the first word in line {number}?", row[0]
            yield f"what is the last word in line {number}?", row[-1]
        elif page.kind == "form" and row[0] in FORM_WORDS:
            yield f"what word is in the row {row[0]}?", row[1]
        elif page.kind == "table":
            yield f"what is the first word in row {number}?", row[0]


def _lines(page: Page) -> Iterator[tuple[str, str]]:
    row_word = "row" if page.kind == "table" else "line"
    firsts = [row[0] for row in page.rows]
    if page.kind == "notice":
        for number, row in enumerate(page.rows, 1):
            for word in row:
                if not word.isdigit() and sum(word in other for other in page.rows) == 1:
                    yield f"in which line is {word}?", str(number)
        return
    for number, row in enumerate(page.rows, 1):
        if len(row) > 1:
            yield f"in which {row_word} is {row[0]}?", str(number)
        if page.keyed and number < len(firsts):
            yield f"what comes after {row[0]}?", firsts[number]
            yield f"what comes before {firsts[number]}?", row[0]
    prices = [row[1] for row in page.items]
    for name, price in page.items:
        if prices.count(price) == 1:
            yield f"which item costs {price}?", name


def _counts(page: Page) -> Iterator[tuple[str, str]]:
    yield f"how many {'rows' if page.kind == 'table' else 'lines'} are there?", str(len(page.rows))
    if page.kind == "receipt":
        yield "how many items are on the list?", str(len(page.items))
    if page.kind == "notice":
        for number, row in enumerate(page.rows, 1):
            yield f"how many words are in line {number}?", str(len(row))


def _presence(page: Page) -> Iterator[tuple[str, str]]:
    there = {word for row in page.rows for word in row} | set(page.head)
    pools = {"receipt": ITEMS + SUMS, "table": COLUMNS + (PEOPLE if page.rows[0][0] in PEOPLE else ITEMS),
             "form": FORM_WORDS + FORM_NUMBERS, "sign": PLACES, "notice": ()}  # fmt: skip
    for word in pools[page.kind]:
        text = f"is {word} on the list?" if word in ITEMS + PEOPLE else f"is there {article(word)}?"
        yield text, "yes" if word in there else "no"
    if page.arrow:
        for direction in DIRECTIONS:
            yield f"does the arrow point {direction}?", "yes" if page.arrow == direction else "no"
    if page.kind in ("notice", "receipt"):
        yield "is there a title?", "yes" if page.title else "no"
    if page.kind == "notice":
        number = any(word.isdigit() for row in page.rows for word in row)
        yield "is there a number?", "yes" if number else "no"
