"""The words of all worlds, apart from those of the scenes, and made-up words that are none of them.

What questions are asked with, and what keys, items, buttons and categories are called, are words of the tokenizer's
vocabulary; everything else that is read off a picture is spelled in characters. Made-up words therefore never begin
with a word of the vocabulary, so that they are spelled from their first character on.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from pruning.scenes.questions import VOCABULARY as SCENE_WORDS

CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789.,:/-%+'?"
"""What the tokenizer spells with; a space lies between two words."""

LETTERS: Final = tuple("abcdefgh")
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
FRUIT: Final = ("apple", "pear", "plum", "kiwi", "lime", "fig", "mango", "grape")
PEOPLE: Final = ("anna", "ben", "carl", "dora", "emil", "finn", "gina", "hugo")
CITIES: Final = ("oslo", "rome", "bonn", "lima", "cairo", "paris", "quito", "delhi")
CATEGORIES: Final = (LETTERS, MONTHS, FRUIT, PEOPLE, CITIES)

ITEMS: Final = ("milk", "bread", "rice", "tea", "coffee", "soup", "fish", "juice", "salt", "cake", "eggs", "cheese")
SUMS: Final = ("tax", "tip", "total", "cash", "change")
FORM_WORDS: Final = ("name", "city", "street", "team")
FORM_NUMBERS: Final = ("room", "seat", "gate", "floor", "age", "code", "phone", "date", "time", "price", "weight")
COLUMNS: Final = ("age", "room", "seat", "price", "weight", "size", "points")
PLACES: Final = ("gate", "room", "floor", "platform", "exit", "bus", "track")
DIRECTIONS: Final = ("left", "right", "up", "down")

BUTTONS: Final = ("save", "open", "cancel", "delete", "print", "help", "send", "close", "search", "copy")
SETTINGS: Final = ("sound", "light", "wifi", "music", "video", "mail", "map", "clock", "camera", "radio")
TABS: Final = ("home", "files", "view", "edit", "tools", "news", "photos", "chat")

_FRAMES: Final = (
    # documents
    "what is the of ? how much title word line row item items lines rows words costs comes after before does sign say "
    "arrow point to in which where there a an on list are first last "
    # charts
    "value bar bars slice slices lines point points highest lowest largest smallest at share larger smaller than above "
    "below how many do rise fall flat trend is it "
    # interfaces
    "box boxes button buttons tab tabs field badge checked unchecked switch switches selected color see number"
)

WORLD_WORDS: Final = tuple(
    dict.fromkeys(
        [
            *_FRAMES.replace("?", "").split(),
            *(name for group in CATEGORIES for name in group),
            *ITEMS, *SUMS, *FORM_WORDS, *FORM_NUMBERS, *COLUMNS, *PLACES, *DIRECTIONS, *BUTTONS, *SETTINGS, *TABS,
        ]
    )
)  # fmt: skip
"""Words of the three worlds beside the scenes, each once."""

WORDS: Final = tuple(dict.fromkeys([*SCENE_WORDS, *WORLD_WORDS]))
"""Every word that is one token."""

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


@cache
def _beginnings() -> tuple[str, ...]:
    return tuple(word for word in WORDS if len(word) > 1)


def invent(rng: np.random.Generator, shortest: int = 3, longest: int = 8) -> str:
    """A pronounceable word of `shortest` to `longest` letters that is spelled, never a token of its own."""
    while True:
        length = int(rng.integers(shortest, longest + 1))
        start = int(rng.integers(2))
        letters = [_CONSONANTS, _VOWELS]
        word = "".join(letters[(start + i) % 2][rng.integers(len(letters[(start + i) % 2]))] for i in range(length))
        if not word.startswith(_beginnings()):
            return word


def article(word: str) -> str:
    """The word with "a" or "an" before it."""
    return f"an {word}" if word[0] in _VOWELS else f"a {word}"


def spelled(word: str) -> bool:
    """Whether the tokenizer spells `word` character by character from its first one on."""
    return word not in WORDS and not word.startswith(_beginnings()) and set(word) <= set(CHARACTERS)
