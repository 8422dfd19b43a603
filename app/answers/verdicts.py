"""What is said of a verdict: the same words in every view."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from app.web.templates import render
from pruning.evaluation.verdict import Verdict, is_empty

NO_WORDS = "no words"
BADGES: Mapping[Verdict, tuple[str, str]] = {  # kind, which the style sheet colours, and words
    Verdict.SAME: ("same", "✓ Same answer"),
    Verdict.DIFFERENT: ("other", "≠ Different answer"),
    Verdict.KEPT_EMPTY: ("other", "≠ No words with the kept tokens"),
    Verdict.FULL_EMPTY: ("none", "∅ No words with all tokens"),
    Verdict.BOTH_EMPTY: ("none", "∅ No words in either answer"),
    Verdict.OUTSIDE: ("none", "∅ Outside what the model knows"),
}
SHORT: Mapping[Verdict, str] = {
    Verdict.SAME: "✓ Same",
    Verdict.DIFFERENT: "≠ Different",
    Verdict.KEPT_EMPTY: "≠ No words",
    Verdict.FULL_EMPTY: "∅ No words",
    Verdict.BOTH_EMPTY: "∅ No words",
    Verdict.OUTSIDE: "∅ Outside",
}


def badge(verdict: Verdict, short: bool = False) -> Markup:
    """Colour, sign and words; what an answer without words means as its title."""
    kind, words = BADGES[verdict]
    return render("parts.badge", kind=kind, words=SHORT[verdict] if short else words, title=verdict.why)


def idle(words: str) -> Markup:
    """What stands in the place of a verdict before there is one."""
    return render("parts.badge", kind="idle", words=words)


def answer(said: str) -> Markup:
    """A finished answer as HTML, be it without words."""
    return render("parts.said", answer=said, instead=NO_WORDS if is_empty(said) else "")
