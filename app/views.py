"""Results as HTML fragments: no Gradio, no model, no decision. All text from outside goes through `text`."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.reports import Report, Side
from app.tradeoff import Progress
from pruning import draw
from pruning.charts import Chart

NONE = "–"
LONG = 40  # characters: a longer answer is set smaller


def text(value: object) -> str:
    """Escaped for HTML, and for the component's own `${…}` and `{{…}}` templates."""
    escaped = html.escape(str(value), quote=True)
    for sign in "${}`":
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    return escaped


def overlay(image: NDArray[np.uint8], style: str, budget: int, n: int) -> str:
    """The overlay with its legend. The picture travels inside the page: no file is written for it."""
    height, width = image.shape[:2]
    alt = f"Overlay “{draw.STYLES[style]}”: {budget} of {n} visual tokens kept"
    legend = {
        "dimmed": '<i class="key kept"></i>kept patch <i class="key veil"></i>pruned patch',
        "grid": '<i class="key kept"></i>kept patch <i class="key faded"></i>pruned patch',
        "heat": 'importance: low <i class="key ramp"></i> high <i class="key white"></i>kept patch',
        "order": 'picked last <i class="key ramp"></i> picked first · the number is the rank',
    }[style]
    return (
        f'<figure class="overlay"><img alt="{text(alt)}" width="{width}" height="{height}" '
        f'src="{draw.data_url(image)}">'
        f"<figcaption>{legend}</figcaption></figure>"
    )


def thumbnails(entries: Sequence[tuple[str, NDArray[np.uint8]]]) -> str:
    """A row of pictures to choose from; `entries` are (name, image)."""
    buttons = "".join(
        f'<button type="button" data-index="{i}" title="{text(name)}">'
        f'<img alt="Example: {text(name)}" src="{draw.data_url(image)}"></button>'
        for i, (name, image) in enumerate(entries)
    )
    return f'<div class="thumbs" role="group" aria-label="Examples">{buttons}</div>'


def readout(budget: int, n: int, mmr_lambda: float | None) -> str:
    """The numbers that the sliders stand for."""
    balance = "this method has no λ" if mmr_lambda is None else f"λ = <b>{mmr_lambda:.2f}</b>"
    return f'<p class="readout"><span><b>{budget}</b> of {n} tokens</span><span>{balance}</span></p>'


def notice(message: str, kind: str = "info") -> str:
    """One line of advice; empty text gives an empty fragment. `kind`: info, warn."""
    sign = {"info": "ℹ", "warn": "⚠"}[kind]
    body = f'<p class="notice {kind}" role="status"><span aria-hidden="true">{sign}</span> {text(message)}</p>'
    return body if message else ""


def report(r: Report | None) -> str:
    """Both answers, the verdict and the table. Every row is there from the start, so nothing moves while numbers
    come.
    """
    r = r or Report(0, 0, "", "idle")
    return (
        '<section class="report"><h2>Answer and cost</h2>'
        f'<div class="answers">{_answer("All tokens", r.n, r.full, r.stage == "all")}'
        f"{_answer('Kept tokens', r.budget, r.kept, r.stage == 'kept')}</div>"
        f'<p class="verdict" aria-live="polite">{_verdict(r)}</p>{_table(r)}</section>'
    )


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


def progress(p: Progress | None, message: str = "") -> str:
    """A bar, how far, and how long it will still take."""
    if p is None:
        return f'<p class="progress"><span>{text(message)}</span></p>'
    done, remaining = len(p.points), p.remaining_s
    words = {
        "answering": "Answering with all tokens first …",
        "sweeping": f"{done} of {p.total} points" + (f", about {max(1, round(remaining))} s left" if remaining else ""),
        "done": f"{done} points measured" + (f" in {p.seconds:.1f} s" if p.seconds else ", from the cache"),
        "stopped": f"Stopped: {done} of {p.total} points kept",
    }[p.stage]
    return (
        f'<p class="progress" role="status"><progress max="{p.total}" value="{done}" aria-label="Points measured">'
        f"</progress><span>{text(words)}{text(message)}</span></p>"
    )


def header(title: str, device: str, dtype: str, about: str) -> str:
    """The page's head: what this is, and which model runs where."""
    return (
        '<header class="lab-head"><div><h1>IDPruner Lab</h1><p>Which image patches does a multimodal model need? '
        "Prune visual tokens by importance and diversity, and measure what it costs.</p></div>"
        f'<p class="model" title="{text(about)}"><b>{text(title)}</b>'
        f"<span>{text(device)} · {text(dtype)}</span></p></header>"
    )


def quantity(value: float, units: Sequence[str], base: float) -> str:
    """Three significant figures with the unit that fits: quantity(12_600_000, ["", "k", "M"], 1000) is "12.6 M"."""
    place = 0
    while value >= base * 0.9995 and place < len(units) - 1:
        value, place = value / base, place + 1
    digits = 0 if place == 0 and value == int(value) else max(0, 2 - len(str(int(value))) + 1)
    return f"{value:.{digits}f} {units[place]}".strip()


def _answer(name: str, count: int, side: Side, running: bool) -> str:
    cursor = '<span class="cursor" aria-hidden="true"></span>' if running else ""
    shown = text(side.text) or ('<span class="faint">no words</span>' if side.done else "")
    number = f"{count} tokens" if count else NONE
    kind = f"answer{' running' if running else ''}{' long' if len(side.text) > LONG else ''}"
    return f'<article class="{kind}"><h3>{name} <small>{number}</small></h3><p>{shown}{cursor}</p></article>'


def _verdict(r: Report) -> str:
    if r.stage == "stopped":
        return '<span class="badge idle">■ Stopped</span>'
    if r.agree is None:
        waiting = {
            "idle": "Ask a question",
            "all": "Answering with all tokens …",
            "kept": "Answering with kept tokens …",
        }
        return f'<span class="badge idle">{waiting.get(r.stage, "…")}</span>'
    sign = (
        '<span class="badge same">✓ Same answer</span>'
        if r.agree
        else '<span class="badge other">≠ Different answer</span>'
    )
    if r.fidelity is None:
        return f"{sign} <span class='faint'>measuring …</span>"
    why = "exp(−mean KL divergence) over the tokens of the all-token answer; 1 = says the same with the same confidence"
    return (
        f'{sign}<span class="fidelity" title="{why}">fidelity <b>{r.fidelity:.3f}</b>'
        f'<span class="bar" aria-hidden="true"><i style="width:{r.fidelity:.1%}"></i></span></span>'
    )


def _table(r: Report) -> str:
    known = r.kept.prefill_tokens and r.full.prefill_tokens
    encoding = _ms(r.encode_s) if r.encode_s else NONE
    rows = [
        _row("Visual tokens", "What the language model receives of the image", *_counts(r)),
        _row("Prefill FLOPs", "Analytic, F = floating-point operations to read the prompt once, text included",
             *_costs(r.full.flops, r.kept.flops, ["F", "kF", "MF", "GF", "TF"], 1000, bool(known))),
        _row("KV cache", "Analytic bytes of keys and values of the prompt",
             *_costs(r.full.kv_bytes, r.kept.kv_bytes, ["B", "KiB", "MiB", "GiB"], 1024, bool(known))),
        _row("Time to first token", "Measured, median of up to 5 runs; for the kept tokens with the selection",
             *_times(r)),
        _row("… of it, selection", "Measured, median of 3 runs, similarity matrix included",
             NONE, NONE if r.select_s is None else _ms(r.select_s), ""),
        _row("Image encoding", "Measured once per image; pruning before the language model does not change it",
             encoding, encoding, ""),
    ]  # fmt: skip
    head = '<tr><td></td><th scope="col">All</th><th scope="col">Kept</th><th scope="col">Saved</th></tr>'
    columns = '<colgroup><col class="name"><col><col><col class="saved"></colgroup>'
    return f'<table class="costs">{columns}<thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _row(name: str, why: str, full: str, kept: str, saved: str) -> str:
    return f'<tr><th scope="row" title="{text(why)}">{name}</th><td>{full}</td><td>{kept}</td><td>{saved}</td></tr>'


def _counts(r: Report) -> tuple[str, str, str]:
    return (str(r.n), str(r.budget), _share(r.n, r.budget)) if r.n else (NONE, NONE, NONE)


def _costs(full: int, kept: int, units: Sequence[str], base: float, known: bool) -> tuple[str, str, str]:
    shown = [quantity(value, units, base) if value else NONE for value in (full, kept)]
    return shown[0], shown[1], _share(full, kept) if known else NONE


def _times(r: Report) -> tuple[str, str, str]:
    full = NONE if r.full.ttft_s is None else _ms(r.full.ttft_s)
    if r.kept.ttft_s is None or r.select_s is None or r.speedup is None:
        return full, NONE, NONE
    gain = f"<b>{r.speedup:.2f}×</b> faster" if r.saves_time else "no gain at this size"
    return full, _ms(r.kept.ttft_s + r.select_s), gain


def _share(full: int, kept: int) -> str:
    return f"<b>{1 - kept / full:.0%}</b>" if 0 < kept < full else "none"


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
