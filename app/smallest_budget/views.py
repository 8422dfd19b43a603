"""The search for the fewest tokens as one line of HTML."""

from __future__ import annotations

from dataclasses import replace

from markupsafe import Markup

from app.smallest_budget.search import Search
from app.web import html
from app.web.html import notice, to_come, waiting
from app.web.templates import render
from app.web.wording import MEAN, share, title


def search(s: Search | None, place: int = 0, problem: str = "") -> Markup:
    """What was found, or how far it is. Nothing before anything was searched. place: in the line where it waits now,
    0 = it does not. problem: why it has ended.
    """
    if problem:
        return notice(problem, "warn")
    if s is None:
        return html.progress(waiting(place)) if place else Markup()
    if s.stage == "searching":
        words = _known(s) + to_come(s.pace) if s.best else "Asking with all tokens …"
        return html.progress(waiting(place) if place else words, "Tried", s.done, s.done + s.left)
    if s.lambdas:
        rest = render("smallest_budget.over_lambda", done=s.done, lambdas=s.lambdas, tries=len(s.tried))
    else:
        rest = render("smallest_budget.tried", tries=s.tried)
    return _line("Stopped. " if s.stage == "stopped" else "", _known(s), rest)


def stopped(s: Search | None) -> Markup:
    """What is known of a search that was stopped, be it before it began."""
    return search(replace(s, stage="stopped")) if s else _line("Stopped.")


def _line(lead: str, known: str = "", rest: str = "") -> Markup:
    return render("smallest_budget.found", lead=lead, known=known, rest=rest)


def _known(s: Search) -> str:
    if s.best is None:
        return "Nothing is known yet"
    return render(
        "smallest_budget.known",
        title=title(s.best),
        tokens=s.tokens,
        n=s.n,
        share=share(s.tokens / s.n) + (f" {MEAN}" if s.best.staged else ""),
        answer=s.answer,
        fails=s.fails,
    )
