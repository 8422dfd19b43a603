"""Races as HTML: how a run stands, its chart and table, a question where two settings differ. No Gradio, no model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from app.pace import Pace
from app.race.pair import Pair
from app.race.runs import Listed
from app.web import html
from app.web.html import NONE, notice, to_come
from app.web.templates import render
from app.web.wording import share
from pruning.drawing.palettes import PAGE
from pruning.params import LAMBDA
from pruning.race import reading
from pruning.race.chart import NOTE, pareto
from pruning.race.folder import Cell, Manifest
from pruning.race.report import TESTS

EMPTY = "No race has been run here yet."
HOW = "A race asks every question of a data set under many settings, and says which differences are real."
STATES = {"new": "Not begun", "running": "At work", "stopped": "Stopped", "done": "Done"}
Row = Mapping[str, Any]


def line(run: Listed) -> str:
    """A run in the menu: "scenes-1 · Scenes VLM · at work"."""
    if not run.rows:
        return f"{run.name} · {'cannot be read' if run.problem else 'getting ready'}"
    return f"{run.name} · {run.model} · {STATES[run.state].lower()}"


def status(run: Listed | None, starts: bool) -> Markup:
    """How a run stands; without one, what a race is and who may start one."""
    if run is None:
        return render("race.empty", words=f"{EMPTY} {HOW}", starts=starts)
    told = notice(run.problem, "warn") if run.problem else Markup()
    if not run.rows:
        return told or html.progress("Getting ready: every record is looked at, two are asked for an estimate")
    left = to_come(Pace(run.seconds, run.done, run.rows)) if run.state == "running" else ""
    if run.estimate and run.state == "new":
        told += notice(f"{run.estimate}. Press Resume to start it, or leave it")
    errors = f", {run.errors:,} of them cannot be asked" if run.errors else ""
    words = f"{STATES[run.state]}: {run.done:,} of {run.rows:,} questions{errors}, {run.settings} settings{left}"
    return html.progress(words, "Questions answered", run.done, run.rows) + told


def chart(rows: Sequence[Row], manifest: Manifest | None) -> Markup:
    """Accuracy against tokens kept, a button on every point; nothing before the first result."""
    if not rows or manifest is None:
        return Markup()
    drawn = pareto(rows, PAGE)
    marks = [
        (f"{mark.left:.3%}", f"{mark.top:.3%}", mark.label, json.dumps(clicked(manifest, mark.method)))
        for mark in drawn.marks
    ]
    return render("tradeoff.chart", summary=drawn.summary, svg=drawn.svg(), marks=marks, note=NOTE)


def clicked(manifest: Manifest, name: str) -> dict[str, Any]:
    """What a click on a setting's point loads into Explore, as `Menus.point` takes it."""
    told = manifest.settings[name]
    if told["retention"] is None:
        return {"plan": told["method"]}
    return {"method": told["method"], "retention": told["retention"], "mmr_lambda": told["knobs"].get(LAMBDA),
            "knobs": told["knobs"]}  # fmt: skip


def table(rows: Sequence[Row]) -> Markup:
    """Every number; `assets/scripts/sort.js` sorts it."""
    if not rows:
        return Markup()
    found = reading.read(rows)
    shown = render("race.table", columns=found.columns, lines=found.lines, sorts=True,
                   caption="All numbers. Press a column’s head to sort by it.")  # fmt: skip
    return shown + render("race.tests", words=TESTS)


def difference(pair: Pair | None, empty: str = "") -> Markup:
    """A question at which two settings have another score, with what each kept, side by side. empty: why there is
    none.
    """
    if pair is None:
        return html.progress(empty) if empty else Markup()
    result, cells = pair.result, pair.result.cells
    painted = [overlay.shown for overlay in pair.painted]
    pictures = [painted[at] if painted else None for at in range(2)]
    sides = [_side(title, cells[name], shown)
             for name, title, shown in zip(pair.names, pair.titles, pictures, strict=True)]  # fmt: skip
    counts = [f"{title} scores higher at {better:,}" for title, better in zip(pair.titles, pair.better, strict=True)]
    return render(
        "race.difference",
        place=f"{pair.place + 1:,} of {pair.count:,}",
        counts=counts,
        question=result.question,
        choices=result.choices,
        answers=", ".join(dict.fromkeys(result.answers)),
        whole=NONE if pair.whole is None else pair.whole.said or NONE,
        row=f"row {result.row}, {result.picture}",
        sides=sides,
        why=notice(pair.why) if pair.why else "",
    )


def _side(title: str, cell: Cell, shown: tuple[int, int, str] | None) -> dict[str, Any]:
    kept = f"{share(cell.came_to)} of the tokens kept"
    alt = f"{title}: {kept}"
    return {
        "title": title,
        "kept": kept,
        "picture": None if shown is None else (alt, *shown),
        "said": cell.said or NONE,
        "score": f"{cell.score:.2f}".rstrip("0").rstrip("."),
        "right": cell.score == 1,
    }
