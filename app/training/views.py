"""Training runs as HTML: how one stands, its curves and settings, what it keeps of a picture. No Gradio, no model."""

from __future__ import annotations

from markupsafe import Markup

from app.training.runs import Listed
from app.training.sample import Sample
from app.web import html
from app.web.html import notice, to_come, waiting
from app.web.templates import render
from pruning.drawing.palettes import PAGE
from pruning.runnable import REGISTERED
from pruning.training import chart

STATES = {"running": "At work", "stopped": "Stopped", "done": "Done"}
NO_SCORE = "No held-out questions were asked: give --held-out, with drawn scenes"
NO_LOSS = "No checkpoint yet"
NAMES = {
    "max_visual_tokens": "visual tokens at most",
    "rate": "learning rate",
    "budget": "budget (share kept)",
    "digest": "data (SHA-256)",
}


def line(run: Listed) -> str:
    """A run in the menu: "covipal-1 · CoViPAL · done"."""
    method = run.plan.get("method", "scorer")
    title = REGISTERED[method].title if method in REGISTERED else str(method)
    return f"{run.name} · {title} · {STATES[run.state].lower()}"


def status(run: Listed | None, gone: str = "") -> Markup:
    """How a run stands; None: there is none. gone: of a run that was shown before, and is not there any more."""
    told = notice(gone, "warn")
    if run is None:
        return told + render("training.empty")
    told += notice(run.problem, "warn")
    done = run.curve.step
    left = to_come(run.pace) if run.state == "running" else ""
    took = f" in {html.duration(run.seconds)}" if run.seconds and run.state != "running" else ""
    words = f"{STATES[run.state]}: {done:,} of {run.steps:,} steps{took}{left}"
    return html.progress(words, "Steps done", done, run.steps) + told


def curves(run: Listed) -> Markup:
    """Losses and held-out score over steps, and all settings of the run."""
    points = run.curve.points
    budget = run.plan.get("budget")
    scores = chart.held_out(points, run.steps, budget if isinstance(budget, float) else None, PAGE)
    drawn = (chart.losses(points, run.steps, PAGE), NO_LOSS), (scores, NO_SCORE)
    charts = [
        render("tradeoff.no_chart", empty=empty) if each is None
        else render("tradeoff.chart", summary=each.summary, svg=each.svg(), marks=(), note=each.summary)
        for each, empty in drawn
    ]  # fmt: skip
    facts = [
        (NAMES.get(name, name.replace("_", " ")), str(value))
        for name, value in run.plan.items()
        if value not in (None, "")
    ]
    return render("training.curves", charts=charts, facts=facts)


def sample(found: Sample | None, problem: str = "", place: int = 0) -> Markup:
    """What each keeps of a picture. problem: why there is none. place: in the line where it waits, 0: it does not."""
    if problem or place:
        return notice(problem, "warn") if problem else html.progress(waiting(place))
    if found is None:
        return Markup()
    sides = []
    after = f", after {found.step:,} steps" if found.step else ""
    for number, side in enumerate(found.sides):
        kept = f"{side.overlay.kept} of {side.overlay.n} tokens kept"
        common = f", {side.common} of them by {found.sides[0].title} too" if number else ""
        title = side.title + ("" if number else after)
        sides.append((title, f"{kept}{common}", (f"{side.title}: {kept}", *side.overlay.shown)))
    return render("training.sample", question=found.question, answer=found.answer, sides=sides)
