"""Many images as HTML: what is asked, progress, the summary, a card for each image. No Gradio, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from app.answers.verdicts import answer, badge, idle
from app.batch.run import MOST, Batch, Item, Skipped, Summary, summary
from app.canvas.overlays import Overlay
from app.session import Session, Setting
from app.web import html
from app.web.html import NONE, notice, seconds, to_come, waiting
from app.web.templates import render
from app.web.wording import MEAN, details, share, title
from pruning.drawing import overlays as draw
from pruning.evaluation.verdict import NO_MEANING, NO_REFERENCE, Verdict

if TYPE_CHECKING:
    from pruning.models import Answer

HINT = (
    f"Upload up to {MOST} images: each is asked the question of the Explore view, with all its tokens and with those "
    "that the setting there keeps."
)


def about(session: Session, setting: Setting) -> Markup:
    """What a run is about."""
    question = session.questions[-1] if session.questions else ""
    return render("batch.about", title=title(setting), details=details(setting), question=question)


def progress(b: Batch | None, skipped: Sequence[Skipped] = (), place: int = 0, problem: str = "") -> Markup:
    """How far a run is, and which files are left out. place: in the line where it waits now, 0 = it does not. problem:
    why it has ended without the rest.
    """
    if problem:
        return notice(problem, "warn")
    if b is None and place:
        return html.progress(waiting(place))
    if b is None:
        return render("batch.hint", words=HINT)
    left = to_come(b.pace) if b.stage == "running" else ""
    head = {"running": "", "stopped": "Stopped: ", "done": ""}[b.stage]
    words = f"{head}{b.done} of {len(b.items)} images{left}"
    if b.stage == "done" and b.items:
        words += f" in {seconds(b.seconds)}, {seconds(b.seconds / len(b.items))} each"
    words = waiting(place) if place else words
    problems = [*skipped, *(Skipped(item.name, item.problem) for item in b.items if item.problem)]
    bar = html.progress(words, "Images measured", b.done, len(b.items))
    return render("batch.progress", bar=bar, left_out=problems)


def stopped(b: Batch | None, skipped: Sequence[Skipped]) -> Markup:
    """How far a run came that was stopped, be it before it began."""
    return progress(replace(b, stage="stopped"), skipped) if b else html.progress("Stopped")


def totals(items: Sequence[Item]) -> Markup:
    """The summary as a row of figures, and how many images those leave out for want of an answer with words
    that can mean something.
    """
    s, told = summary(items), Markup()
    outside = sum(item.verdict is Verdict.OUTSIDE for item in items)
    for count, why in ((sum(item.empty for item in items) - outside, NO_REFERENCE), (outside, NO_MEANING)):
        told += notice(f"Not counted: {count} of {len(items)} images. {why}" if count else "", "warn")
    if s is None:
        return told
    spread = f"± {s.deviation:.3f}" if s.images > 1 else "one image"
    facts = [
        ("Same answer", f"{s.agree} of {s.images}", share(s.agree / s.images) if s.agree else "0 %"),
        ("Fidelity, mean", f"{s.fidelity:.3f}", spread),
        ("Lowest fidelity", f"{s.lowest.fidelity:.3f}" if s.lowest.fidelity is not None else NONE, s.lowest.name),
        ("Tokens kept", f"{s.kept} of {s.n}", _shares(s)),
    ]
    return render("batch.totals", facts=facts) + told


def _shares(s: Summary) -> str:
    """How many of the tokens are kept, and where that is a mean over layers, how many see the last one."""
    return share(s.kept / s.n) + (f" {MEAN}, {s.at_end} at the end" if s.at_end != s.kept else "")


def card(item: Item | None, painted: Overlay | None, over: bool = False) -> Markup:
    """One image: its overlay, both answers, whether they agree. over: nothing more will be known of it."""
    if item is None or item.problem:
        return Markup()
    picture = None
    if painted is not None:
        height, width = painted.image.shape[:2]
        alt = f"{item.name}: {item.budget} of {item.n} visual tokens kept"
        picture = (alt, width, height, draw.data_url(painted.image))
    return render(
        "batch.card",
        name=item.name,
        picture=picture,
        depths=painted.depths if painted else (),
        full=(item.n, _words(item.full)),
        kept=(item.budget, _words(item.kept)),
        verdict=idle("not measured" if over else "…") if item.verdict is None else badge(item.verdict, short=True),
        fidelity=item.fidelity,
    )


def _words(given: Answer | None) -> str:
    return NONE if given is None else answer(given.text)
