"""Up to four settings on the same images and question, one after the other. Knows the engine, not the page.

What is known of one setting is its `Report`; added here are which tokens it keeps, so that kept sets can be compared,
and what all of it is about, so that a page can tell when it is out of date.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from app.answers.reports import Report, reports
from app.canvas.state import fitting
from app.engine.capabilities import Capabilities
from app.engine.device import DeviceFullError, Task
from app.engine.engine import Engine
from app.pace import Pace
from app.session import Session, Setting
from pruning.choosing import methods_of
from pruning.evaluation import metrics

MOST = 4
LETTERS = "ABCD"
Slots = tuple[Setting | None, ...]  # MOST of them, None = empty
EMPTY: Slots = (None,) * MOST


@dataclass(frozen=True)
class Row:
    """What is known of one setting. problem: why there is no report. kept: which of the n tokens stay, of a plan those
    alive after its last cut, packed bits.
    """

    setting: Setting
    report: Report | None = None
    problem: str = ""
    kept: bytes = b""

    @property
    def finished(self) -> bool:
        return self.report is not None and self.report.stage == "done"


@dataclass(frozen=True)
class Results:
    """Rows that are all about one topic; None before there is any."""

    topic: Hashable = None
    rows: tuple[Row, ...] = ()

    def of(self, setting: Setting | None) -> Row | None:
        return next((row for row in self.rows if row.setting == setting), None)

    def put(self, row: Row) -> Results:
        """With this row in the place of an earlier one about the same setting."""
        return replace(self, rows=(*(other for other in self.rows if other.setting != row.setting), row))


@dataclass(frozen=True)
class Step:
    """A comparison under way: the results so far, the setting at work, how far. stage: "running", "done", "stopped"."""

    results: Results
    setting: Setting | None
    done: int
    total: int
    seconds: float
    stage: str = "running"

    @property
    def pace(self) -> Pace:
        return Pace(self.seconds, self.done, self.total)


@dataclass(frozen=True)
class Overlap:
    """Two kept sets: intersection over union, how many tokens both keep, and the IoU that their sizes allow at most."""

    iou: float
    shared: int
    limit: float


def put(slots: Slots, setting: Setting, place: int | None = None) -> Slots:
    """The slots with `setting` at `place`, or in the first empty one.

    Raises ValueError where all are taken, or the setting stands in another slot already.
    """
    taken = next((at for at, other in enumerate(slots) if other == setting and at != place), None)
    if taken is not None:
        raise ValueError(f"This setting stands in slot {LETTERS[taken]} already: change method, weights or retention")
    if place is None:
        place = next((at for at, other in enumerate(slots) if other is None), None)
    if place is None:
        raise ValueError(f"All {MOST} slots are taken: remove one, or replace it")
    return (*slots[:place], setting, *slots[place + 1 :])


def remove(slots: Slots, place: int) -> Slots:
    return (*slots[:place], None, *slots[place + 1 :])


def topic(session: Session) -> Hashable:
    """What results are about: equal for two sessions with the same model, images and questions."""
    return (session.model_name, session.keys, session.questions)


def rows(session: Session, slots: Slots, results: Results) -> tuple[Row | None, ...]:
    """What is known of each slot for these images and questions, None where it is empty."""
    known = results if results.topic == topic(session) else Results()
    return tuple(None if slot is None else known.of(slot) or Row(slot) for slot in slots)


def compare(
    engine: Engine,
    capabilities: Capabilities,
    session: Session,
    settings: Sequence[Setting],
    results: Results,
    task: Task,
) -> Iterator[Step]:
    """Measure every setting that `results` does not have yet; those about another topic are forgotten.

    A setting that fails keeps the reason in its row, and the others go on. Ends with stage "stopped" soon after `task`
    is set. Raises ValueError for a question that is no question.
    """
    session.checked_questions()
    known = results.rows if results.topic == topic(session) else ()
    results = Results(topic(session), tuple(row for row in known if row.setting in settings and row.finished))
    missing = [setting for setting in settings if results.of(setting) is None]
    start = time.perf_counter()

    def step(setting: Setting | None, done: int, stage: str = "running") -> Step:
        return Step(results, setting, done, len(missing), time.perf_counter() - start, stage)

    for done, setting in enumerate(missing):
        if task.is_set():
            break
        yield step(setting, done)
        for row in _measured(engine, capabilities, session, setting, task):
            results = results.put(row)
            yield step(setting, done)
    ended = sum(row.problem != "" or row.finished for row in results.rows if row.setting in missing)
    yield step(None, ended, "stopped" if ended < len(missing) else "done")


def cut(step: Step, problem: str) -> Step:
    """The step as the last one: the setting at work was stopped, or has a problem."""
    at_work = step.setting and (step.results.of(step.setting) or Row(step.setting))
    if not isinstance(at_work, Row) or at_work.problem or at_work.finished:
        return replace(step, stage="stopped")
    report = at_work.report and replace(at_work.report, stage="stopped")
    row = replace(at_work, problem=problem, report=None if problem else report)
    return replace(step, results=step.results.put(row), stage="stopped")


def overlap(first: Row, second: Row) -> Overlap | None:
    """How alike two kept sets are; None where one of them is not known, or keeps none of the tokens."""
    if not first.kept or not second.kept:
        return None
    a, b = (np.flatnonzero(np.unpackbits(np.frombuffer(row.kept, np.uint8))) for row in (first, second))
    shared = len(np.intersect1d(a, b))
    iou = metrics.iou(torch.from_numpy(a), torch.from_numpy(b))
    return Overlap(iou, shared, min(len(a), len(b)) / max(len(a), len(b)))


def _measured(
    engine: Engine, capabilities: Capabilities, session: Session, setting: Setting, task: Task
) -> Iterator[Row]:
    try:
        for name in methods_of(setting.asked):
            capabilities.check(name)
        fits = fitting(session, setting)
        kept = b""  # of another encoding: none of these tokens
        if fits.encoding is None:
            kept = np.packbits(engine.selection(session, fits).mask.cpu().numpy()).tobytes()
        for report in reports(engine, session, fits, task):
            yield Row(setting, report, kept=kept)
    except (ValueError, DeviceFullError, TimeoutError) as error:
        yield Row(setting, problem=str(error))
