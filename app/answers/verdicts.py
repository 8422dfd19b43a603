"""What is said of a verdict: the same words in every view."""

from __future__ import annotations

from collections.abc import Mapping

from app.web.html import text
from pruning.evaluation.verdict import Verdict, is_empty

NO_WORDS = "no words"
BADGES: Mapping[Verdict, tuple[str, str]] = {  # kind, which the style sheet colours, and words
    Verdict.SAME: ("same", "✓ Same answer"),
    Verdict.DIFFERENT: ("other", "≠ Different answer"),
    Verdict.KEPT_EMPTY: ("other", "≠ No words with the kept tokens"),
    Verdict.FULL_EMPTY: ("none", "∅ No words with all tokens"),
    Verdict.BOTH_EMPTY: ("none", "∅ No words in either answer"),
}
SHORT: Mapping[Verdict, str] = {
    Verdict.SAME: "✓ Same",
    Verdict.DIFFERENT: "≠ Different",
    Verdict.KEPT_EMPTY: "≠ No words",
    Verdict.FULL_EMPTY: "∅ No words",
    Verdict.BOTH_EMPTY: "∅ No words",
}


def badge(verdict: Verdict, short: bool = False) -> str:
    """Colour, sign and words; what an answer without words means as its title."""
    kind, words = BADGES[verdict]
    title = f' title="{text(verdict.why)}"' if verdict.why else ""
    return f'<span class="badge {kind}"{title}>{SHORT[verdict] if short else words}</span>'


def answer(said: str, none: str = f'<span class="faint">{NO_WORDS}</span>') -> str:
    """A finished answer as HTML; `none` in the place of one without words."""
    return none if is_empty(said) else text(said)
