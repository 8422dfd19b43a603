"""Whether the present setting pays on this device, batch after batch. Knows the engine, not the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from app.engine import remote
from app.engine.device import Task
from app.engine.engine import Engine
from app.pace import Pace
from app.session import Session, Setting
from pruning.evaluation.paying import Paying

CONCURRENCY = (1, 4, 16)
MOST = 64  # requests at once that a visitor may ask for


@dataclass(frozen=True)
class Step:
    """What is known so far. stage: "running", "done", "stopped"."""

    result: Paying
    pace: Pace
    stage: str = "running"


def run(
    engine: Engine, session: Session, setting: Setting, task: Task, concurrency: Sequence[int] = CONCURRENCY
) -> Iterator[Step]:
    """Measure it for the conversation's first question, one batch at a time alone on the device.

    What the visitor forced is no part of it. Ends with stage "stopped" after the batch in which `task` is set. Raises
    ValueError as `pruning.evaluation.pays.pays` does, and for more than MOST requests at once.
    """
    question = session.checked_questions()[0]
    if any(type(many) is int and many > MOST for many in concurrency):
        raise ValueError(f"concurrency {max(concurrency)} is not allowed: at most {MOST} requests at once")
    values = (engine.images(session), question, setting.asked, setting.retention, setting.scope,
              setting.positions, tuple(concurrency))  # fmt: skip
    step: Step | None = None
    with closing(remote.pays(engine.handle, *values)) as reports:  # type: ignore[type-var]
        while not task.is_set() and (report := engine.on_device(lambda: next(reports, None))) is not None:
            step = Step(report.result, Pace(report.seconds, report.done, report.total))
            yield step
    if step is not None:
        yield replace(step, stage="stopped" if task.is_set() else "done")
