"""Ask with all tokens and with the kept ones, then measure: a stream of `Report`s that fills up as results come.

Knows the engine, not the page. Each step asks the engine for one cached or computed value, so a second visitor with
the same image, question and setting pays for none of them.

A conversation is its questions: both answers to each follow from the setting, every later turn from the answers before
it, in each column its own. So a conversation under another setting is asked again from its first turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.answers.answering import Asked, answers, closeness, first_token_seconds
from app.engine.device import Task
from app.engine.engine import Engine
from app.session import Session, Setting
from pruning.budget import keep_count
from pruning.choosing import needs_of, title_of, written
from pruning.evaluation.answered import Piece, Side, speedup
from pruning.evaluation.answered import side as side_of
from pruning.evaluation.cost import LayerCost, layer_costs
from pruning.evaluation.lives import Lives, lives
from pruning.evaluation.reencoded import Reencoded
from pruning.evaluation.verdict import Verdict, verdict
from pruning.plan import Plan

if TYPE_CHECKING:
    from pruning.models import Answer
    from pruning.models.language.trace import Trace

GAIN = 0.95  # a time within 5 % of the other is no gain: repeated runs differ by that much
UNSAID = Side()


@dataclass(frozen=True)
class Exchange:
    """An earlier turn: what was asked, both answers, and whether these can mean anything.

    agree, fidelity: of the kept tokens' answer in their own conversation to that with all tokens in theirs; None where
    that is not defined, fidelity also before it is measured.
    """

    question: str
    full: str
    kept: str
    in_world: bool = True
    agree: bool | None = None
    fidelity: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything the page says about one setting. `stage` tells what is under way; numbers not known yet are None.

    Where the answer with all tokens has no words, fidelity and pieces stay unknown.
    """

    n: int
    budget: int  # of a plan: tokens alive in the mean of the layers
    method: str
    stage: str  # "all", "kept", "measuring", "done", "stopped"
    question: str = ""
    earlier: tuple[Exchange, ...] = ()
    full: Side = UNSAID
    kept: Side = UNSAID
    verdict: Verdict | None = None
    fidelity: float | None = None
    pieces: tuple[Piece, ...] = ()
    select_s: float | None = None
    encode_s: float = 0.0
    in_world: bool = True
    outside: str = ""  # why picture or question lie outside of what the model knows
    lives: Lives | None = None  # what a plan came to in the last turn
    encoding: Reencoded | None = None  # another one, where the setting asks for it
    entered: int = 0  # of a plan: tokens that enter the language model
    layers: tuple[LayerCost, ...] = ()  # of a plan: what each costs

    @property
    def agree(self) -> bool | None:
        """Whether both answers are the same; None before both are there, and where there is nothing to compare with."""
        return None if self.verdict is None else self.verdict.agree

    @property
    def speedup(self) -> float | None:
        """TTFT with all tokens over TTFT with the kept ones, selection included; None until both are measured."""
        return speedup(self.full, self.kept, self.select_s)

    @property
    def saves_time(self) -> bool | None:
        return None if self.speedup is None else self.speedup * GAIN > 1


def reports(engine: Engine, session: Session, setting: Setting, task: Task) -> Iterator[Report]:
    """Stream both answers to every turn of the conversation, and measure the last one.

    Ends with stage "stopped" soon after `task` is set. Raises ValueError for a bad question or retention, or a signal
    that the model lacks.
    """
    questions = session.checked_questions()
    runs = engine.runs(session, setting)
    encoded = engine.encoded(session, needs_of(setting.asked))
    n = encoded.tokens.n
    known = engine.in_world(session)
    report = Report(
        n,
        engine.budget(session, setting),
        title_of(setting.asked),
        "all",
        encode_s=encoded.encode_s,
        in_world=known.inside,
        outside=known.reason,
    )
    full, kept = Asked(session, ""), Asked(session, "", runs, positions=setting.positions)
    given: dict[str, Answer] = {}
    turns: list[tuple[Asked, Asked, Answer]] = []  # both questions of each earlier turn, and its answer with all tokens
    for question in questions:
        if given:  # the turn before this one is over
            asked_so_far = replace(session, questions=questions[: len(report.earlier) + 1])
            inside = engine.in_world(asked_so_far).inside
            agree = verdict(given["full"], given["kept"], inside).agree
            exchange = Exchange(full.question, given["full"].text, given["kept"].text, inside, agree)
            turns.append((full, kept, given["full"]))
            report = replace(report, earlier=(*report.earlier, exchange), full=UNSAID, kept=UNSAID)
        full, kept = full.then(question, given.get("full")), kept.then(question, given.get("kept"))
        for side, asked in (("full", full), ("kept", kept)):
            report = replace(report, question=question, stage="all" if side == "full" else "kept")
            yield report
            for item in answers(engine, asked, task):
                if isinstance(item, str):
                    report = _with(report, side, Side(item))
                    yield report
                    continue
                report = _with(report, side, side_of(engine.vlm, item))
                if item.cancelled:
                    yield replace(report, stage="stopped")
                    return
                given[side] = item
                if item.trace is not None and isinstance(runs, Plan):
                    layers = _layers(engine, item, item.trace)
                    lived = lives(written(setting.asked, runs), item.trace)
                    # What its rules came to: one that drops all or nothing may have kept more than was asked for.
                    mean = keep_count(n, lived.equivalent_retention)
                    report = replace(report, lives=lived, budget=mean, entered=item.trace.entered, layers=layers)
    report = replace(report, stage="measuring", verdict=verdict(given["full"], given["kept"], known.inside))
    yield report
    for measured in _measurements(engine, [*turns, (full, kept, given["full"])], setting, report):
        yield measured
        if task.is_set():
            yield replace(measured, stage="stopped")
            return
        report = measured
    yield replace(report, stage="done")


def _measurements(
    engine: Engine, turns: Sequence[tuple[Asked, Asked, Answer]], setting: Setting, report: Report
) -> Iterator[Report]:
    full, kept, answer = turns[-1]
    if report.verdict is not None and report.verdict.comparable:
        close = closeness(engine, full, answer, kept)
        pieces = map(Piece, engine.vlm.pieces(answer.ids), close.sure, close.lost)
        report = replace(report, fidelity=close.fidelity, pieces=tuple(pieces))
        yield report
    select_s, encoding = engine.selection_seconds(full.session, setting), engine.reencoded(full.session, setting)
    report = replace(report, select_s=select_s, encoding=encoding)
    yield report
    report = replace(report, full=replace(report.full, ttft_s=first_token_seconds(engine, full)))
    yield report
    report = replace(report, kept=replace(report.kept, ttft_s=first_token_seconds(engine, kept)))
    yield report
    for place, (before, pruned, said) in enumerate(turns[:-1]):
        if report.earlier[place].agree is not None:
            close = closeness(engine, before, said, pruned)
            earlier = list(report.earlier)
            earlier[place] = replace(earlier[place], fidelity=close.fidelity)
            report = replace(report, earlier=tuple(earlier))
            yield report


def _layers(engine: Engine, answer: Answer, trace: Trace) -> tuple[LayerCost, ...]:
    vlm = engine.vlm
    return layer_costs(vlm.config, trace.alive, trace.held, answer.prefill_tokens - trace.entered, vlm.dtype)


def _with(report: Report, which: str, side: Side) -> Report:
    return replace(report, full=side) if which == "full" else replace(report, kept=side)
