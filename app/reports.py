"""Ask with all tokens and with the kept ones, then measure: a stream of `Report`s that fills up as results come.

Knows the engine, not the page. Each step asks the engine for one cached or computed value, so a second visitor with
the same image, question and setting pays for none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.answering import answers, fidelity, first_token_seconds
from app.device import Task
from app.engine import Engine, checked_question
from app.session import Session
from pruning.cost import kv_cache_bytes, prefill_flops
from pruning.metrics import agreement

if TYPE_CHECKING:
    from pruning.method import Method
    from pruning.models import Answer
    from pruning.tokens import Selection

GAIN = 0.95  # a time within 5 % of the other is no gain: repeated runs differ by that much


@dataclass(frozen=True)
class Side:
    """One of the two answers: its text so far, and what it cost. `ttft_s` is None until it is measured."""

    text: str = ""
    done: bool = False
    prefill_tokens: int = 0
    flops: int = 0
    kv_bytes: int = 0
    ttft_s: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything the page says about one setting. `stage` tells what is under way; numbers not known yet are None."""

    n: int
    budget: int
    method: str
    stage: str  # "all", "kept", "measuring", "done", "stopped"
    full: Side = Side()
    kept: Side = Side()
    agree: bool | None = None
    fidelity: float | None = None
    select_s: float | None = None
    encode_s: float = 0.0

    @property
    def saves_memory(self) -> bool:
        return 0 < self.kept.kv_bytes < self.full.kv_bytes

    @property
    def speedup(self) -> float | None:
        """TTFT with all tokens over TTFT with the kept ones, selection included; None until both are measured."""
        if self.full.ttft_s is None or self.kept.ttft_s is None or self.select_s is None:
            return None
        return self.full.ttft_s / max(1e-9, self.kept.ttft_s + self.select_s)

    @property
    def saves_time(self) -> bool | None:
        return None if self.speedup is None else self.speedup * GAIN > 1


def reports(
    engine: Engine, session: Session, question: str, method: Method, retention: float, task: Task
) -> Iterator[Report]:
    """Stream both answers and the measurements. Ends with stage "stopped" soon after `task` is set.

    Raises ValueError for a bad question, retention or a signal that the model lacks.
    """
    question = checked_question(question)
    selection = engine.selection(session, question, method, retention)
    encoded = engine.encoded(session, method.needs)
    report = Report(selection.n, selection.k, method.title, "all", encode_s=encoded.encode_s)
    yield report
    given: dict[str, Answer] = {}
    for stage, kept in (("all", None), ("kept", selection)):
        report = replace(report, stage=stage)
        side = "full" if kept is None else "kept"
        for item in answers(engine, session, question, kept, task):
            if isinstance(item, str):
                report = _with(report, side, Side(item))
                yield report
                continue
            report = _with(report, side, _side(engine, item))
            if item.cancelled:
                yield replace(report, stage="stopped")
                return
            given[side] = item
    report = replace(report, stage="measuring", agree=agreement(given["full"].ids, given["kept"].ids))
    yield report
    for measured in _measurements(engine, session, question, method, retention, selection, given["full"], report):
        yield measured
        if task.is_set():
            yield replace(measured, stage="stopped")
            return
        report = measured
    yield replace(report, stage="done")


def _measurements(
    engine: Engine,
    session: Session,
    question: str,
    method: Method,
    retention: float,
    selection: Selection,
    full: Answer,
    report: Report,
) -> Iterator[Report]:
    report = replace(report, fidelity=fidelity(engine, session, question, full, selection))
    yield report
    report = replace(report, select_s=engine.selection_seconds(session, question, method, retention))
    yield report
    ttft = first_token_seconds(engine, session, question, None)
    report = replace(report, full=replace(report.full, ttft_s=ttft))
    yield report
    ttft = first_token_seconds(engine, session, question, selection)
    yield replace(report, kept=replace(report.kept, ttft_s=ttft))


def _with(report: Report, which: str, side: Side) -> Report:
    return replace(report, full=side) if which == "full" else replace(report, kept=side)


def _side(engine: Engine, answer: Answer) -> Side:
    config = engine.vlm.config
    return Side(
        text=answer.text,
        done=not answer.cancelled,
        prefill_tokens=answer.prefill_tokens,
        flops=prefill_flops(config, answer.prefill_tokens),
        kv_bytes=kv_cache_bytes(config, answer.prefill_tokens, engine.vlm.dtype),
    )
