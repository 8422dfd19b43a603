"""How two answers to one question compare: decided here alone, for the page, its endpoints and the command line.

An answer without words is no answer. Two of them are no agreement, and where the model says nothing with all tokens
there is nothing that a pruned answer could agree with or be faithful to.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

UNSEEN = frozenset({"Cc", "Cf"})  # Unicode categories: control characters; zero-width ones and the like
REMEDY = "ask another question, or choose another image or model"
NO_REFERENCE = f"With all tokens the model answers without words, so there is nothing to compare with: {REMEDY}"


NO_MEANING = (
    "The picture or the question lies outside what this model knows, so its answers mean nothing: ask about what it "
    "knows, or choose a model that reads photographs"
)


class Reply(Protocol):
    """What a model said; `pruning.models.Answer` is one."""

    @property
    def text(self) -> str: ...

    @property
    def ids(self) -> Sequence[int]: ...


class Verdict(StrEnum):
    """What a pruned answer is to the answer with all tokens."""

    SAME = "same"
    DIFFERENT = "different"
    KEPT_EMPTY = "kept_empty"  # words with all tokens, none with the kept ones: a difference
    FULL_EMPTY = "full_empty"  # words with the kept tokens alone
    BOTH_EMPTY = "both_empty"
    OUTSIDE = "outside"  # of the model's own world: whatever it says means nothing

    @property
    def comparable(self) -> bool:
        """Whether the answer with all tokens has words that can mean something: agreement and fidelity are defined."""
        return self not in (Verdict.FULL_EMPTY, Verdict.BOTH_EMPTY, Verdict.OUTSIDE)

    @property
    def agree(self) -> bool | None:
        """Whether both answers are the same; None where that is not defined."""
        return self is Verdict.SAME if self.comparable else None

    @property
    def why(self) -> str:
        """What an answer without words or meaning tells, and what to do; "" where both have both."""
        if self is Verdict.OUTSIDE:
            return NO_MEANING
        if self is Verdict.KEPT_EMPTY:
            return "With the kept tokens the model answers without words: keep more tokens, or choose another method"
        if self is Verdict.BOTH_EMPTY:
            return f"Neither answer has words, so there is nothing to compare: {REMEDY}"
        return NO_REFERENCE if self is Verdict.FULL_EMPTY else ""


def verdict(full: Reply, kept: Reply, in_world: bool = True) -> Verdict:
    """Compare two finished greedy answers: empty by their texts, the same where they are so token for token.

    full: with all visual tokens. kept: with those that a method keeps. in_world: whether picture and question lie in
    the model's own world, as `pruning.models.in_world` finds.
    """
    if not in_world:
        return Verdict.OUTSIDE
    if is_empty(full.text):
        return Verdict.BOTH_EMPTY if is_empty(kept.text) else Verdict.FULL_EMPTY
    if is_empty(kept.text):
        return Verdict.KEPT_EMPTY
    return Verdict.SAME if list(full.ids) == list(kept.ids) else Verdict.DIFFERENT


def is_empty(text: str) -> bool:
    """Whether an answer shows nothing: an end token alone, white space, characters that cannot be seen."""
    return all(char.isspace() or unicodedata.category(char) in UNSEEN for char in text)


def check_words(full: Reply, about: str = "") -> None:
    """Raises ValueError where the answer with all tokens is empty. about: which answer, where there are several."""
    if is_empty(full.text):
        raise ValueError(f"{about}: {NO_REFERENCE}" if about else NO_REFERENCE)


def check_meaning(reason: str) -> None:
    """Raises ValueError where there is a reason why an answer means nothing, as `pruning.models.in_world` finds it."""
    if reason:
        raise ValueError(f"{NO_MEANING} ({reason})")
