"""How the evaluation code of VQA reads an answer before it is compared (https://visualqa.org/evaluation.html)."""

from __future__ import annotations

import re
from itertools import product
from typing import Final

_DIGITS: Final = "zero one two three four five six seven eight nine ten"
NUMBERS: Final = {"none": "0"} | {word: str(i) for i, word in enumerate(_DIGITS.split())}
_FULL: Final = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll let's ma'am might've mightn't mightn't've must've "
    "mustn't needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd "
    "somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've "
    "something'll that'd that'd've that's there'd there'd've there're there's they'd they'd've they'll they're "
    "they've wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've "
    "who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd "
    "you'd've you'll you're you've"
)
SIGNS: Final = ';/[]"{}()=+\\_-><@`,?!'


def vqa_plain(text: str) -> str:
    """As the evaluation code of VQA reads answers: lower case, no punctuation, digits for words, no articles,
    apostrophes of contractions back in their place (https://visualqa.org/evaluation.html).
    """
    given = text = " ".join(text.split())
    numbers = re.search(r"\d,\d", given) is not None
    for sign in SIGNS:
        beside_blank = f"{sign} " in given or f" {sign}" in given
        text = text.replace(sign, "" if beside_blank or numbers else " ")
    text = re.sub(r"\.(?!\d)", "", text).lower()
    words = [NUMBERS.get(word, word) for word in text.split()]
    return " ".join(CONTRACTED.get(word, word) for word in words if word not in ("a", "an", "the"))


def _without(word: str) -> set[str]:
    """The word without one or more of its apostrophes."""
    parts = word.split("'")
    signs = product(("", "'"), repeat=len(parts) - 1)
    return {"".join(part + sign for part, sign in zip(parts, (*each, ""), strict=True)) for each in signs} - {word}


CONTRACTED: Final = {short: word for word in _FULL.split() for short in _without(word)}
