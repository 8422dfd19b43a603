"""Whether it pays as HTML: the verdict, where the time goes, every number. No Gradio, no model."""

from __future__ import annotations

from markupsafe import Markup

from app.pays.run import Step
from app.web import html
from app.web.html import NONE, notice, seconds, size, to_come, waiting
from app.web.templates import render
from pruning.drawing.bars import Bar, bars
from pruning.drawing.palettes import PAGE
from pruning.evaluation.paying import PHASES, Paying
from pruning.evaluation.timing import Timing

HINT = (
    "Measures the present setting on this device against all tokens and against other encodings of the picture, at "
    "several requests at once."
)
PAYS = {True: "pays", False: "does not pay", None: "no difference"}
HEADS = ("At once", "Setting", "Tokens", *(phase.capitalize() for phase in PHASES), "First token", "Tokens/s",
         "Requests/s", "KV cache", "Peak memory")  # fmt: skip


def progress(step: Step | None, place: int = 0, problem: str = "", stopped: bool = False) -> Markup:
    """place: in the line where it waits now, 0 = it does not. problem: why it has ended without the rest."""
    if problem:
        return notice(problem, "warn")
    if place:
        return html.progress(waiting(place))
    if step is None:
        return html.progress("Stopped" if stopped else HINT)
    words = {
        "running": f"Measuring{to_come(step.pace)}",
        "done": "All measured",
        "stopped": "Stopped: what was measured stays",
    }
    stage = "stopped" if stopped else step.stage
    done, total = (1, 1) if stage == "done" else (round(step.pace.done), round(step.pace.total))
    return html.progress(words[stage], "Batches measured", done, total)


def result(found: Paying | None) -> Markup:
    """All that is known so far; nothing before the first setting is measured."""
    if found is None or not found.rows:
        return Markup()
    given = [
        Bar(f"{row.concurrency} at once", row.setting, {phase: getattr(row, phase).median_ms for phase in PHASES})
        for row in found.rows
    ]
    chart = bars(given, PAGE)
    rows = [
        (str(row.concurrency), row.setting, f"{row.n:,}", *(_time(getattr(row, phase)) for phase in PHASES),
         _time(row.ttft), f"{row.tokens_per_s:.1f}", f"{row.requests_per_s:.2f}", size(row.kv_bytes),
         NONE if row.peak_bytes is None else size(row.peak_bytes))
        for row in found.rows
    ]  # fmt: skip
    sizes = [
        (f"{each.n:,}", f"{each.kept:,}", _time(each.all_tokens), _time(each.setting), PAYS[each.pays])
        for each in found.sizes
    ]
    return render(
        "pays.result",
        verdict=found.verdict,
        break_even="" if found.break_even is None else f"{found.break_even:,}",
        reasons=[each.sentence for each in found.rulings if each.sentence != found.verdict],
        summary=chart.summary,
        svg=chart.svg(),
        heads=HEADS,
        rows=rows,
        sizes=sizes,
        saves=[(name, ", ".join(stages)) for name, stages in found.saves.items()],
        left_out=found.left_out,
        rounds=found.rounds,
        new_tokens=found.new_tokens,
    )


def _time(time: Timing) -> str:
    """ "12.3 ms (11.9–13.0)", a dash for what is not done."""
    return NONE if time.high_ms == 0 else f"{seconds(time.median_ms / 1e3)} ({time.low_ms:.1f}–{time.high_ms:.1f})"
