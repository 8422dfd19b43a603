"""A comparison as HTML: slots, progress, the table that sorts, the matrix of overlaps. No Gradio, no model."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from app.answers.reports import Report
from app.answers.verdicts import NO_WORDS, SHORT, answer, badge, idle
from app.canvas.overlays import Overlay
from app.compare.run import LETTERS, Row, Slots, Step, overlap
from app.web import html
from app.web.html import FLOPS, NONE, notice, quantity, seconds, to_come, waiting
from app.web.templates import render
from app.web.wording import MEAN, details, share, title
from pruning.drawing import overlays as draw
from pruning.evaluation.verdict import NO_MEANING, NO_REFERENCE, is_empty

BYTES = ("B", "KiB", "MiB", "GiB")
STAGES = {"all": "answering with all tokens", "kept": "answering with kept tokens", "measuring": "measuring"}
COLUMNS = (  # head, what it means
    ("Setting", "Slot, method and knobs"),
    ("Tokens kept", "Visual tokens that the language model receives; of a plan, alive in the mean of its layers"),
    ("At the end", "Visual tokens that its last layer sees: of a plan, those alive after the last cut"),
    ("Same answer", "Whether the greedy answer is the all-token one, token for token"),
    (
        "Fidelity",
        "exp(−mean KL divergence) over the tokens of the all-token answer; 1 = the same with the same confidence",
    ),
    ("Prefill FLOPs", "Analytic: floating-point operations to read the prompt once, text included"),
    ("KV cache", "Analytic: bytes of keys and values of the prompt"),
    ("First token", "Measured time to the first token with the selection, median of up to 5 runs"),
    ("Selection", "Measured, of it: the selection alone, median of 3 runs"),
)
Cell = tuple[float | None, str, str]  # what it is sorted by, words, smaller ones


def head(place: int, row: Row | None, painted: Sequence[Overlay]) -> Markup:
    """A slot's letter, setting and overlays; or that it is empty."""
    letter = LETTERS[place]
    if row is None:
        return render("compare.empty_slot", letter=letter)
    pictures = [
        (
            f"Slot {letter}: {part.kept} of {part.n} visual tokens kept",
            part.image.shape[1],
            part.image.shape[0],
            draw.data_url(part.image),
        )
        for part in painted
    ]
    setting = row.setting
    return render(
        "compare.head",
        letter=letter,
        title=title(setting),
        details=details(setting),
        pictures=pictures,
        depths=painted[0].depths if painted else (),
    )


def body(row: Row | None) -> Markup:
    """What came of a slot's setting so far."""
    if row is None:
        return Markup()
    if row.problem:
        return notice(row.problem, "warn")
    r = row.report
    if r is None:
        return render("compare.unmeasured")
    words = answer(r.kept.text) if r.kept.done else r.kept.text or "…"
    if r.verdict is None:
        verdict = idle("■ Stopped" if r.stage == "stopped" else f"{STAGES.get(r.stage, '')} …")
    else:
        verdict = badge(r.verdict)
    kept = f"{r.budget} of {r.n} tokens"
    if r.lives is not None:
        kept += f" {MEAN}, {r.lives.alive[-1]} at the end"
    return render("compare.body", kept=kept, answer=words, verdict=verdict, fidelity=r.fidelity)


def status(
    step: Step | None, slots: Slots, out_of_date: bool = False, place: int = 0, problem: str = "", stopped: bool = False
) -> Markup:
    """How far it is, what it is about, or what to do. place: in the line where it waits now, 0 = it does not. problem:
    why it has ended without the rest. stopped: before anything of it began.
    """
    if problem:
        return notice(problem, "warn")
    if not any(slots):
        return render("compare.hint")
    if step is None and out_of_date:
        told = notice("These results are about another image, question or model: press Run again", "warn")
        return render("compare.stale", told=told)
    if step is None and stopped:
        return notice("Stopped: press Run again to measure")
    if step is None:
        return notice(waiting(place) if place else "Waiting to be measured …")
    if step.stage == "running":
        at = slots.index(step.setting) if step.setting in slots else 0
        row = step.results.of(step.setting)
        doing = STAGES.get(row.report.stage, "done") if row and row.report else "selecting"
        doing = waiting(place) if place else doing
        words = f"{LETTERS[at]}: {doing} · {step.done} of {step.total} done{to_come(step.pace)}"
    else:
        words = {"stopped": f"Stopped: {step.done} of {step.total} done", "done": "All slots measured"}[step.stage]
    # A run with nothing to do is whole.
    done, total = (step.done, step.total) if step.total else (1, 1)
    return html.progress(words, "Settings measured", done, total) + _reference(step.results.rows)


def table(rows: Sequence[Row | None]) -> Markup:
    """Every number of every slot, and below them those of all tokens. `assets/scripts/sort.js` sorts it."""
    known = [(at, row.setting, row.report) for at, row in enumerate(rows) if row is not None and row.report is not None]
    if not known:
        return Markup()
    whole = max((report for _, _, report in known), key=lambda r: (r.full.ttft_s is not None, r.full.done))
    lines = [(at, LETTERS[at], title(setting), details(setting), _cells(report)) for at, setting, report in known]
    below = _reference_cells(whole) if whole.full.prefill_tokens else ()
    return render("compare.table", columns=COLUMNS, lines=lines, all=below)


def matrix(rows: Sequence[Row | None]) -> Markup:
    """Overlap of every two kept sets."""
    known = [(LETTERS[place], row) for place, row in enumerate(rows) if row is not None and row.kept]
    if len(known) < 2:
        return Markup()
    lines = [(letter, [_shared(letter, row, *other) for other in known]) for letter, row in known]
    inside = any(row.setting.staged for _, row in known)
    return render("compare.matrix", lines=lines, unknown=NONE, inside=inside)


def _shared(letter: str, row: Row, other: str, of: Row) -> dict[str, str] | None:
    """A cell of the matrix; None where the sets are of different images."""
    found = overlap(row, of)
    if found is None:
        return None
    return {
        "iou": f"{found.iou:.2f}",
        "most": "" if found.limit == 1 else f"{found.limit:.2f}",
        "share": f"{found.iou:.0%}",
        "why": f"{letter} and {other} share {found.shared} tokens",
    }


def _cells(r: Report) -> list[Cell]:
    ttft = None if r.kept.ttft_s is None or r.select_s is None else r.kept.ttft_s + r.select_s
    return [
        (float(r.budget), str(r.budget), share(r.budget / r.n)),
        _cell(float(_at_end(r)), str(_at_end(r))),
        _cell(None if r.agree is None else float(r.agree), "" if r.verdict is None else SHORT[r.verdict].lower()),
        _cell(r.fidelity, "" if r.fidelity is None else f"{r.fidelity:.3f}"),
        *_costs(r.kept.flops, r.kept.kv_bytes, ttft, r.select_s),
    ]


def _at_end(r: Report) -> int:
    """Visual tokens that the last layer sees."""
    return r.budget if r.lives is None else r.lives.alive[-1]


def _reference_cells(r: Report) -> list[Cell]:
    costs = _costs(r.full.flops, r.full.kv_bytes, r.full.ttft_s, None)
    return [(None, str(r.n), "100 %"), _cell(None, str(r.n)), _cell(None, ""), _cell(None, ""), *costs]


def _costs(flops: int, kv_bytes: int, ttft: float | None, select: float | None) -> list[Cell]:
    return [
        _cell(float(flops) if flops else None, quantity(flops, FLOPS, 1000) if flops else ""),
        _cell(float(kv_bytes) if kv_bytes else None, quantity(kv_bytes, BYTES, 1024) if kv_bytes else ""),
        _cell(ttft, "" if ttft is None else seconds(ttft)),
        _cell(select, "" if select is None else seconds(select)),
    ]


def _cell(value: float | None, shown: str) -> Cell:
    return value, shown or NONE, ""


def _reference(rows: Sequence[Row]) -> Markup:
    """What the answers are compared with."""
    r = next((row.report for row in rows if row.report is not None and row.report.full.done), None)
    if r is None:
        return Markup()
    empty = is_empty(r.full.text)
    told = render("compare.reference", question=r.question, n=r.n, answer=NO_WORDS if empty else r.full.text)
    why = NO_REFERENCE if empty else ""
    return told + notice(why if r.in_world else NO_MEANING, "warn")
