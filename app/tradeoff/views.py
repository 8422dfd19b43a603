"""The curves as HTML: figures with a button on every point, and how far a measurement is."""

from __future__ import annotations

import json
from collections.abc import Sequence

from markupsafe import Markup

from app.tradeoff.measure import Progress
from app.web import html
from app.web.html import notice, to_come, waiting
from app.web.templates import render
from pruning.drawing.charts import Chart, Mark


def chart(c: Chart | None, empty: str = "", note: str = "") -> Markup:
    """A figure with a button on every point: hover names it, click or Enter loads it, arrow keys walk along. note: what
    has to be known of it.
    """
    if c is None:
        return render("tradeoff.no_chart", empty=empty)
    marks = [(f"{mark.left:.3%}", f"{mark.top:.3%}", mark.label, _setting(mark)) for mark in c.marks]
    return render("tradeoff.chart", summary=c.summary, svg=c.svg(), marks=marks, note=note)


def _setting(mark: Mark) -> str:
    """What a click on the point loads, for `assets/scripts/charts.js`."""
    return json.dumps({"method": mark.method, "mmr_lambda": mark.mmr_lambda, "retention": mark.retention})


def progress(p: Progress | None, left_out: Sequence[str] = (), place: int = 0, problem: str = "") -> Markup:
    """A bar, how far, how long it will still take, and why some methods are not in it. place: in the line where it
    waits now, 0 = it does not. problem: why it has ended without the rest.
    """
    if problem:
        return notice(problem, "warn")
    if p is None:
        return html.progress(waiting(place) if place else "")
    done = len(p.points)
    words = {
        "answering": "Answering with all tokens first …",
        "sweeping": f"{done} of {p.total} points{to_come(p.pace)}",
        "done": f"{done} points measured" + (f" in {p.seconds:.1f} s" if p.seconds else ", from the cache"),
        "stopped": f"Stopped: {done} of {p.total} points kept",
        "empty": "No curve: the answer with all tokens has no words",
        "outside": "No curve: picture or question lie outside what the model knows",
    }[p.stage]
    words = waiting(place) if place else words
    bar = html.progress(words, "Points measured", done, p.total)
    return render("tradeoff.progress", bar=bar, left_out="; ".join([*left_out, *p.left_out]))
