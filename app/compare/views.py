"""A comparison as HTML: slots, progress, the table that sorts, the matrix of overlaps. No Gradio, no model."""

from __future__ import annotations

from collections.abc import Sequence

from app.answers.reports import Report
from app.answers.verdicts import NO_WORDS, SHORT, answer, badge
from app.canvas.overlays import Overlay
from app.compare.run import LETTERS, Row, Slots, Step, overlap
from app.session import Setting
from app.web.html import NONE, notice, quantity, seconds, text, to_come, waiting
from app.web.wording import details, share, title
from pruning.drawing import overlays as draw
from pruning.evaluation.verdict import NO_REFERENCE, is_empty

FLOPS, BYTES = ("F", "kF", "MF", "GF", "TF", "PF"), ("B", "KiB", "MiB", "GiB")
WIDE = '<div class="wide" tabindex="0">'  # scrolls by itself where the page is narrow
STAGES = {"all": "answering with all tokens", "kept": "answering with kept tokens", "measuring": "measuring"}
COLUMNS = (  # head, what it means
    ("Setting", "Slot, method and knobs"),
    ("Tokens kept", "What the language model receives of the images"),
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


def head(place: int, row: Row | None, painted: Sequence[Overlay]) -> str:
    """A slot's letter, setting and overlays; or that it is empty."""
    if row is None:
        return f'<p class="slot-empty"><b>{LETTERS[place]}</b> empty</p>'
    setting = row.setting
    pictures = "".join(
        f'<img alt="{text(f"Slot {LETTERS[place]}: {part.kept} of {part.n} visual tokens kept")}" '
        f'width="{part.image.shape[1]}" height="{part.image.shape[0]}" src="{draw.data_url(part.image)}">'
        for part in painted
    )
    several = " several" if len(painted) > 1 else ""
    return (
        f'<header class="slot-head"><h3><b>{LETTERS[place]}</b> {text(title(setting))}</h3>'
        f'<p>{text(details(setting))}</p></header><div class="slot-pictures{several}">{pictures}</div>'
    )


def body(row: Row | None) -> str:
    """What came of a slot's setting so far."""
    if row is None:
        return ""
    if row.problem:
        return notice(row.problem, "warn")
    r = row.report
    if r is None:
        return '<p class="slot-answer faint">not measured yet</p><p class="slot-verdict"></p>'
    words = answer(r.kept.text) if r.kept.done else text(r.kept.text) or "…"
    if r.verdict is None:
        verdict = "■ Stopped" if r.stage == "stopped" else f"{STAGES.get(r.stage, '')} …"
        verdict = f'<span class="badge idle">{verdict}</span>'
    else:
        verdict = badge(r.verdict)
    if r.fidelity is not None:
        verdict += (
            f'<span class="fidelity">fidelity <b>{r.fidelity:.3f}</b><span class="bar" aria-hidden="true">'
            f'<i style="width:{r.fidelity:.1%}"></i></span></span>'
        )
    kept = f"{r.budget} of {r.n} tokens"
    return (
        f'<p class="slot-answer"><small>{kept}</small>{words}</p>'
        f'<p class="slot-verdict" aria-live="polite">{verdict}</p>'
    )


def status(
    step: Step | None, slots: Slots, out_of_date: bool = False, place: int = 0, problem: str = "", stopped: bool = False
) -> str:
    """How far it is, what it is about, or what to do. place: in the line where it waits now, 0 = it does not. problem:
    why it has ended without the rest. stopped: before anything of it began.
    """
    if problem:
        return notice(problem, "warn")
    if not any(slots):
        return (
            '<p class="slots-hint">Put up to four settings side by side: add what stands on the Explore view now, and '
            "the two baselines that every method has to beat. All answer the same question about the same images.</p>"
        )
    if step is None and out_of_date:
        told = notice("These results are about another image, question or model: press Run again", "warn")
        return f'<div class="stale">{told}</div>'
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
    return (
        f'<p class="progress" role="status"><progress max="{max(1, step.total)}" '
        f'value="{step.done if step.total else 1}" aria-label="Settings measured"></progress>'
        f"<span>{text(words)}</span></p>{_reference(step.results.rows)}"
    )


def table(rows: Sequence[Row | None]) -> str:
    """Every number of every slot, and below them those of all tokens. `assets/scripts/sort.js` sorts it."""
    known = [(at, row.setting, row.report) for at, row in enumerate(rows) if row is not None and row.report is not None]
    if not known:
        return ""
    heads = "".join(
        f'<th scope="col" aria-sort="none" title="{text(why)}"><button type="button">{name}</button></th>'
        for name, why in COLUMNS
    )
    lines = "".join(_line(*each) for each in known)
    whole = max((report for _, _, report in known), key=lambda r: (r.full.ttft_s is not None, r.full.done))
    foot = _reference_line(whole) if whole.full.prefill_tokens else ""
    return (
        f'{WIDE}<table class="sortable"><caption>All numbers. Press a column’s head to sort by it.</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody><tfoot>{foot}</tfoot></table></div>"
    )


def matrix(rows: Sequence[Row | None]) -> str:
    """Overlap of every two kept sets."""
    known = [(LETTERS[place], row) for place, row in enumerate(rows) if row is not None and row.kept]
    if len(known) < 2:
        return ""
    heads = "".join(f'<th scope="col"><b>{letter}</b></th>' for letter, _ in known)
    lines = "".join(
        f'<tr><th scope="row"><b>{letter}</b></th>{"".join(_cell(letter, row, *other) for other in known)}</tr>'
        for letter, row in known
    )
    return (
        f'{WIDE}<table class="iou"><caption>IoU of the kept sets: tokens that both keep, over tokens that '
        "either keeps. Sets of different sizes cannot reach 1; the most they can is in brackets.</caption>"
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _cell(letter: str, row: Row, other: str, of: Row) -> str:
    found = overlap(row, of)
    if found is None:
        return f"<td>{NONE}</td>"
    most = "" if found.limit == 1 else f" <small>({found.limit:.2f})</small>"
    words = f"{letter} and {other} share {found.shared} tokens"
    strength = f"{found.iou:.0%}"
    return f'<td style="--share:{strength}" title="{text(words)}">{found.iou:.2f}{most}</td>'


def _line(place: int, setting: Setting, r: Report) -> str:
    name = f"<b>{LETTERS[place]}</b> {text(title(setting))} <small>{text(details(setting))}</small>"
    ttft = None if r.kept.ttft_s is None or r.select_s is None else r.kept.ttft_s + r.select_s
    agree = None if r.agree is None else float(r.agree)
    return (
        f'<tr><th scope="row" data-value="{place}">{name}</th>'
        + _number(float(r.budget), f"{r.budget} <small>{share(r.budget / r.n)}</small>")
        + _number(agree, "" if r.verdict is None else SHORT[r.verdict].lower())
        + _number(r.fidelity, "" if r.fidelity is None else f"{r.fidelity:.3f}")
        + _costs(r.kept.flops, r.kept.kv_bytes, ttft, r.select_s)
        + "</tr>"
    )


def _reference_line(r: Report) -> str:
    return (
        '<tr><th scope="row">All tokens</th>'
        + _number(None, f"{r.n} <small>100 %</small>")
        + _number(None, NONE) * 2
        + _costs(r.full.flops, r.full.kv_bytes, r.full.ttft_s, None)
        + "</tr>"
    )


def _costs(flops: int, kv_bytes: int, ttft: float | None, select: float | None) -> str:
    return (
        _number(float(flops) if flops else None, quantity(flops, FLOPS, 1000) if flops else "")
        + _number(float(kv_bytes) if kv_bytes else None, quantity(kv_bytes, BYTES, 1024) if kv_bytes else "")
        + _number(ttft, "" if ttft is None else seconds(ttft))
        + _number(select, "" if select is None else seconds(select))
    )


def _number(value: float | None, shown: str) -> str:
    return f"<td{'' if value is None else f' data-value={chr(34)}{value!r}{chr(34)}'}>{shown or NONE}</td>"


def _reference(rows: Sequence[Row]) -> str:
    """What the answers are compared with."""
    r = next((row.report for row in rows if row.report is not None and row.report.full.done), None)
    if r is None:
        return ""
    said = answer(r.full.text, NO_WORDS)
    told = f'<p class="slots-about">“{text(r.question)}” · with all {r.n} tokens: <b>{said}</b></p>'
    return told + notice(NO_REFERENCE if is_empty(r.full.text) else "", "warn")
