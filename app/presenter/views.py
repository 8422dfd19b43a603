"""A report in the presenter's few and large words. Plain text: the view sets it as text, never as HTML."""

from __future__ import annotations

from typing import Any

from app.answers.reports import Report
from app.answers.verdicts import BADGES, NO_WORDS
from app.session import Setting
from app.tradeoff.measure import Progress
from app.web.html import NONE
from pruning.choosing import title_of
from pruning.evaluation.answered import Side
from pruning.evaluation.verdict import is_empty

LONG = 24  # characters: a longer answer is set smaller
WAITING = {
    "waiting": "Computing …",
    "all": "Answering with all tokens …",
    "kept": "Answering with the kept tokens …",
    "measuring": "Measuring …",
    "stopped": "Stopped",
    "done": "",
}


def told(r: Report | None) -> dict[str, Any]:
    """What is known so far; None: nothing but the question. Every fact is there from the start, so nothing moves."""
    if r is None:
        r = Report(0, 0, "", "waiting")
    verdict, words = ("", "") if r.verdict is None else BADGES[r.verdict]
    return {
        "stage": r.stage,
        "status": WAITING[r.stage],
        **({"question": r.question} if r.question else {}),
        "full": _words(r.full),
        "kept": _words(r.kept),
        "long": max(len(r.full.text), len(r.kept.text)) > LONG,
        "verdict": verdict,
        "verdict_words": words,
        "verdict_why": r.verdict.why if r.verdict else "",
        "facts": _facts(r),
    }


def method(setting: Setting) -> str:
    """ "IDPruner, λ = 0.50"; of a plan, what leaves where."""
    balance = None if setting.plan else setting.method.lambda_
    name = title_of(setting.asked)
    return name if balance is None else f"{name}, λ = {balance:.2f}"


def measured(p: Progress) -> str:
    """How far the fidelity curves are; nothing once they are whole."""
    return "" if p.stage in ("done", "empty") else f"Measuring the curves: {len(p.points)} of {p.total} points"


def _words(side: Side) -> str:
    return NO_WORDS if side.done and is_empty(side.text) else side.text


def _facts(r: Report) -> list[tuple[str, str]]:
    """(name, value) of what pruning costs and saves."""
    fidelity = NONE if r.fidelity is None else f"{r.fidelity:.3f}"
    flops, cache = _less(r.full.flops, r.kept.flops), _less(r.full.kv_bytes, r.kept.kv_bytes)
    first = NONE if r.speedup is None else f"{r.speedup:.2f}× faster" if r.saves_time else "no gain at this size"
    return [("Fidelity", fidelity), ("Prefill FLOPs", flops), ("KV cache", cache), ("Time to first token", first)]


def _less(full: int, kept: int) -> str:
    """What is saved, once both are known."""
    return NONE if not kept else f"{1 - kept / full:.0%} less" if kept < full else "no less"
