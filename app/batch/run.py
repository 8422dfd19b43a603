"""One setting and one question over many images: both answers of each, how close they are, and a summary.

Knows the engine, not the page. Images are answered in groups; the device is free between two calls of the model, and a
stop ends the call that is under way.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.answers.answering import Asked, closeness
from app.answers.batching import answer_all
from app.canvas.state import fitting
from app.engine.device import DeviceFullError, Task
from app.engine.engine import Engine
from app.engine.resources import Pictures
from app.pace import Pace
from app.session import Session, Setting
from pruning.debris import is_debris
from pruning.evaluation.verdict import Verdict, verdict

if TYPE_CHECKING:
    from pruning.models import Answer

MOST = 16  # images at once
GROUP = 4  # images that are answered together


@dataclass(frozen=True)
class Skipped:
    """A file that is left out, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Item:
    """An image of the batch, and what is known of it.

    name: of its file. session: the question about it. problem: why it is left out after all. budget: tokens kept of n,
    of a plan alive in the mean of the layers; at_end: those that the last layer sees. full, kept: the answers with all
    and with the kept tokens.
    """

    name: str
    session: Session
    problem: str = ""
    n: int = 0
    budget: int = 0
    at_end: int = 0
    full: Answer | None = None
    kept: Answer | None = None
    fidelity: float | None = None
    in_world: bool = True

    @property
    def verdict(self) -> Verdict | None:
        """How both greedy answers compare; None before both are there."""
        return None if self.full is None or self.kept is None else verdict(self.full, self.kept, self.in_world)

    @property
    def empty(self) -> bool:
        """The answer with all tokens has no words or means nothing, so there is nothing to compare with."""
        return self.verdict is not None and not self.verdict.comparable

    @property
    def over(self) -> bool:
        """Nothing more will be known of it."""
        return bool(self.problem) or self.fidelity is not None or self.empty


@dataclass(frozen=True)
class Batch:
    """A run over the items. stage: "running", "done", "stopped". fresh: indices of the items that have just changed."""

    items: tuple[Item, ...]
    fresh: tuple[int, ...]
    seconds: float
    stage: str = "running"

    @property
    def done(self) -> int:
        return sum(item.over for item in self.items)

    @property
    def pace(self) -> Pace:
        return Pace(self.seconds, self.done, len(self.items))


@dataclass(frozen=True)
class Summary:
    """Over the images that could be compared: how many agree, mean fidelity with its spread, tokens kept of all.

    deviation: standard deviation of the sample, 0 for one image. lowest: the image with the lowest fidelity.
    """

    images: int
    agree: int
    fidelity: float
    deviation: float
    lowest: Item
    kept: int
    at_end: int
    n: int


def opened(
    pictures: Pictures, paths: Sequence[str], session: Session, no_clips: str = ""
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """The images and clips among the files, each asked the session's present question, and the files that are left out.

    no_clips: why the model takes none. Raises ValueError where there is no file, and for a question that is none.
    """
    paths = [path for path in paths if not is_debris(Path(path).name)]
    if not paths:
        raise ValueError(f"There are no images: upload up to {MOST}")
    question = session.checked_questions()[-1]
    items: list[Item] = []
    skipped: list[Skipped] = []
    for path in paths:
        if len(items) == MOST:
            skipped.append(Skipped(Path(path).name, f"at most {MOST} images at once: run the others after these"))
            continue
        try:
            picture, _ = pictures.open(path, no_clips=no_clips)
        except ValueError as error:
            skipped.append(Skipped(Path(path).name, str(error)))
        else:
            items.append(Item(Path(path).name, Session(session.model_name, (picture,), (question,))))
    return tuple(items), tuple(skipped)


def run(engine: Engine, items: Sequence[Item], setting: Setting, task: Task) -> Iterator[Batch]:
    """Measure group by group. An image that the model cannot take is left out with the reason, and the others go on.

    Ends with stage "stopped" soon after `task` is set.
    """
    measured, start = list(items), time.perf_counter()

    def now(fresh: Sequence[int], stage: str = "running") -> Batch:
        return Batch(tuple(measured), tuple(fresh), time.perf_counter() - start, stage)

    yield now(())
    for first in range(0, len(measured), GROUP):
        group = range(first, min(first + GROUP, len(measured)))
        for place in group:
            if not task.is_set():
                measured[place] = _selected(engine, measured[place], setting)
                yield now([place])
        for side in ("full", "kept"):
            asking = [place for place in group if measured[place].n and not measured[place].problem]
            answers = answer_all(engine, [_asked(engine, measured[place], setting, side) for place in asking], task)
            for place, answer in zip(asking, answers, strict=True):
                measured[place] = _with(measured[place], side, answer)
            yield now(asking)
        for place in group:
            if measured[place].verdict is not None and not measured[place].over and not task.is_set():
                measured[place] = _measured(engine, measured[place], setting)
                yield now([place])
        if task.is_set():
            break
    yield now((), "done" if all(item.over for item in measured) else "stopped")


def summary(items: Sequence[Item]) -> Summary | None:
    """None before anything is measured, and where no answer has words to compare with."""
    measured = [(item.fidelity, item) for item in items if item.fidelity is not None]
    if not measured:
        return None
    values = [value for value, _ in measured]
    return Summary(
        images=len(measured),
        agree=sum(item.verdict is Verdict.SAME for _, item in measured),
        fidelity=statistics.fmean(values),
        deviation=statistics.stdev(values) if len(values) > 1 else 0.0,
        lowest=min(measured, key=lambda pair: pair[0])[1],
        kept=sum(item.budget for _, item in measured),
        at_end=sum(item.at_end for _, item in measured),
        n=sum(item.n for _, item in measured),
    )


def _selected(engine: Engine, item: Item, setting: Setting) -> Item:
    try:
        fits = fitting(item.session, setting)
        n, budget = engine.encoded(item.session).tokens.n, engine.budget(item.session, fits)
        at_end = engine.selection(item.session, fits).k
    except (ValueError, DeviceFullError) as error:
        return replace(item, problem=str(error))
    known = engine.in_world(item.session).inside
    return replace(item, n=n, budget=budget, at_end=at_end, in_world=known)


def _asked(engine: Engine, item: Item, setting: Setting, side: str) -> Asked:
    runs = engine.runs(item.session, fitting(item.session, setting)) if side == "kept" else None
    return Asked(item.session, item.session.first, runs, positions=setting.positions)


def _with(item: Item, side: str, answer: Answer | str) -> Item:
    """The item with an answer, or with why there is none; one that was stopped is none."""
    if isinstance(answer, str):
        return replace(item, problem=answer)
    if answer.cancelled:
        return item
    return replace(item, full=answer) if side == "full" else replace(item, kept=answer)


def _measured(engine: Engine, item: Item, setting: Setting) -> Item:
    if item.full is None:
        return item
    full, kept = (_asked(engine, item, setting, side) for side in ("full", "kept"))
    try:
        return replace(item, fidelity=closeness(engine, full, item.full, kept).fidelity)
    except (ValueError, DeviceFullError) as error:
        return replace(item, problem=str(error))
