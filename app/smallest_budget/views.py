"""The search for the fewest tokens as one line of HTML."""

from __future__ import annotations

from dataclasses import replace

from app.smallest_budget.search import Search, Try
from app.web.html import notice, text, to_come, waiting
from app.web.wording import share, title


def search(s: Search | None, place: int = 0, problem: str = "") -> str:
    """What was found, or how far it is. Nothing before anything was searched. place: in the line where it waits now,
    0 = it does not. problem: why it has ended.
    """
    if problem:
        return notice(problem, "warn")
    if s is None:
        return f'<p class="progress" role="status">{waiting(place)}</p>' if place else ""
    if s.stage == "searching":
        words = f"{_known(s)}{to_come(s.pace)}" if s.best else "Asking with all tokens …"
        words = waiting(place) if place else words
        return (
            f'<p class="progress" role="status"><progress max="{max(1, s.done + s.left)}" value="{s.done}" '
            f'aria-label="Tried"></progress><span>{words}</span></p>'
        )
    stopped = "Stopped. " if s.stage == "stopped" else ""
    return (
        f'<p class="fewest" role="status">{stopped}{_known(s)}{_over_lambda(s) if s.lambdas else _tried(s.tried)}</p>'
    )


def stopped(s: Search | None) -> str:
    """What is known of a search that was stopped, be it before it began."""
    return search(replace(s, stage="stopped")) if s else '<p class="fewest" role="status">Stopped.</p>'


def _known(s: Search) -> str:
    if s.best is None:
        return "Nothing is known yet"
    count = f"<b>{s.tokens} of {s.n} tokens</b> ({share(s.tokens / s.n)})"
    fewer = f", {s.fails} do not" if s.fails else ""
    answer = f" “{text(s.answer)}”" if s.answer else " the answer"
    return f"{text(title(s.best))}: {count} keep{answer}{fewer}"


def _over_lambda(s: Search) -> str:
    return f" <small>fewest over {s.done} of {s.lambdas} values of λ, {len(s.tried)} tries</small>"


def _tried(tried: tuple[Try, ...]) -> str:
    """Every try."""
    marks = "".join(
        f'<span class="{"does" if t.same else "fails"}" title="{t.tokens} tokens: '
        f'{"the same answer" if t.same else "another answer"}">{t.tokens} {"✓" if t.same else "✗"}</span>'
        for t in tried
    )
    return f' <small class="tried">tried {marks}</small>'
