"""Many images as HTML: what is asked, progress, the summary, a card for each image. No Gradio, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from app.answers.verdicts import answer, badge
from app.batch.run import MOST, Batch, Item, Skipped, summary
from app.canvas.overlays import Overlay
from app.session import Session, Setting
from app.web.html import NONE, notice, seconds, text, to_come, waiting
from app.web.wording import details, share, title
from pruning.drawing import overlays as draw
from pruning.evaluation.verdict import NO_REFERENCE

if TYPE_CHECKING:
    from pruning.models import Answer

HINT = (
    f"Upload up to {MOST} images: each is asked the question of the Explore view, with all its tokens and with those "
    "that the setting there keeps."
)


def about(session: Session, setting: Setting) -> str:
    """What a run is about."""
    question = session.questions[-1] if session.questions else ""
    return f'<p class="batch-about"><b>{text(title(setting))}</b> {text(details(setting))} · “{text(question)}”</p>'


def progress(b: Batch | None, skipped: Sequence[Skipped] = (), place: int = 0, problem: str = "") -> str:
    """How far a run is, and which files are left out. place: in the line where it waits now, 0 = it does not. problem:
    why it has ended without the rest.
    """
    if problem:
        return notice(problem, "warn")
    if b is None and place:
        return f'<p class="progress" role="status">{waiting(place)}</p>'
    if b is None:
        return f'<p class="slots-hint">{HINT}</p>'
    left = to_come(b.pace) if b.stage == "running" else ""
    head = {"running": "", "stopped": "Stopped: ", "done": ""}[b.stage]
    words = f"{head}{b.done} of {len(b.items)} images{left}"
    if b.stage == "done" and b.items:
        words += f" in {seconds(b.seconds)}, {seconds(b.seconds / len(b.items))} each"
    words = waiting(place) if place else words
    problems = [*skipped, *(Skipped(item.name, item.problem) for item in b.items if item.problem)]
    told = "".join(f"<li><b>{text(one.name)}</b>: {text(one.why)}</li>" for one in problems)
    listed = f'<ul class="batch-left-out" aria-label="Left out">{told}</ul>' if told else ""
    return (
        f'<p class="progress" role="status"><progress max="{max(1, len(b.items))}" value="{b.done}" '
        f'aria-label="Images measured"></progress><span>{words}</span></p>{listed}'
    )


def stopped(b: Batch | None, skipped: Sequence[Skipped]) -> str:
    """How far a run came that was stopped, be it before it began."""
    return progress(replace(b, stage="stopped"), skipped) if b else '<p class="progress" role="status">Stopped</p>'


def totals(items: Sequence[Item]) -> str:
    """The summary as a row of figures, and how many images those leave out for want of an answer with words."""
    s, empty = summary(items), sum(item.empty for item in items)
    told = notice(f"Not counted: {empty} of {len(items)} images. {NO_REFERENCE}" if empty else "", "warn")
    if s is None:
        return told
    spread = f"± {s.deviation:.3f}" if s.images > 1 else "one image"
    facts = [
        ("Same answer", f"{s.agree} of {s.images}", share(s.agree / s.images) if s.agree else "0 %"),
        ("Fidelity, mean", f"{s.fidelity:.3f}", spread),
        ("Lowest fidelity", f"{s.lowest.fidelity:.3f}" if s.lowest.fidelity is not None else NONE, s.lowest.name),
        ("Tokens kept", f"{s.kept} of {s.n}", share(s.kept / s.n)),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{text(value)} <small>{text(more)}</small></dd></div>" for name, value, more in facts
    )
    return f'<dl class="batch-totals">{cells}</dl>{told}'


def card(item: Item | None, painted: Overlay | None, over: bool = False) -> str:
    """One image: its overlay, both answers, whether they agree. over: nothing more will be known of it."""
    if item is None or item.problem:
        return ""
    picture = ""
    if painted is not None:
        alt = f"{item.name}: {item.budget} of {item.n} visual tokens kept"
        height, width = painted.image.shape[:2]
        picture = f'<img alt="{text(alt)}" width="{width}" height="{height}" src="{draw.data_url(painted.image)}">'
    idle = f'<span class="badge idle">{"not measured" if over else "…"}</span>'
    verdict = idle if item.verdict is None else badge(item.verdict, short=True)
    close = "" if item.fidelity is None else f'<span class="fidelity">fidelity <b>{item.fidelity:.3f}</b></span>'
    name = f'<b class="name" title="{text(item.name)}">{text(item.name)}</b>'
    return (
        f'<figure class="batch-card">{picture}<figcaption>{name}'
        f"<dl><dt>All {item.n}</dt><dd>{_words(item.full)}</dd>"
        f"<dt>Kept {item.budget}</dt><dd>{_words(item.kept)}</dd></dl>"
        f"<p>{verdict}{close}</p></figcaption></figure>"
    )


def _words(given: Answer | None) -> str:
    return NONE if given is None else answer(given.text)
