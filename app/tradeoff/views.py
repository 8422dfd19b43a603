"""The curves as HTML: figures with a button on every point, and how far a measurement is."""

from __future__ import annotations

import json
from collections.abc import Sequence

from app.tradeoff.measure import Progress
from app.web.html import notice, text, to_come, waiting
from pruning.drawing.charts import Chart


def chart(c: Chart | None, empty: str = "") -> str:
    """A figure with a button on every point: hover names it, click or Enter loads it, arrow keys walk along."""
    if c is None:
        return f'<div class="chart empty"><p>{text(empty)}</p></div>'
    buttons = []
    for place, mark in enumerate(c.marks):
        label, focus = text(mark.label), 0 if place == 0 else -1
        setting = json.dumps({"method": mark.method, "mmr_lambda": mark.mmr_lambda, "retention": mark.retention})
        buttons.append(
            f'<button type="button" class="mark" style="left:{mark.left:.3%};top:{mark.top:.3%}" tabindex="{focus}"'
            f' data-setting="{text(setting)}" aria-label="{label}. Load this setting" title="{label}">'
            "</button>"
        )
    return f'<div class="chart" role="group" aria-label="{text(c.summary)}">{c.svg()}{"".join(buttons)}</div>'


def progress(p: Progress | None, left_out: Sequence[str] = (), place: int = 0, problem: str = "") -> str:
    """A bar, how far, how long it will still take, and why some methods are not in it. place: in the line where it
    waits now, 0 = it does not. problem: why it has ended without the rest.
    """
    if problem:
        return notice(problem, "warn")
    if p is None:
        return f'<p class="progress" role="status">{waiting(place) if place else ""}</p>'
    done = len(p.points)
    words = {
        "answering": "Answering with all tokens first …",
        "sweeping": f"{done} of {p.total} points{to_come(p.pace)}",
        "done": f"{done} points measured" + (f" in {p.seconds:.1f} s" if p.seconds else ", from the cache"),
        "stopped": f"Stopped: {done} of {p.total} points kept",
        "empty": "No curve: the answer with all tokens has no words",
    }[p.stage]
    words = waiting(place) if place else words
    told = f'<p class="left-out">Left out: {text("; ".join(left_out))}</p>' if left_out else ""
    return (
        f'<p class="progress" role="status"><progress max="{p.total}" value="{done}" aria-label="Points measured">'
        f"</progress><span>{text(words)}</span></p>{told}"
    )
