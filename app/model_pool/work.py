"""A visitor's work with a model, from its event to its end: one task, one line, one model that stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from app.engine.capabilities import Capabilities
from app.engine.device import Line, Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.model_pool.pool import Models
from app.web.streams import Shown, stream

V = TypeVar("V")
Work = Callable[[Engine, Capabilities, Task], Iterator[V]]


@dataclass(frozen=True)
class Kind:
    """name: of its tasks, of which a visitor has one at a time. line: where it waits before it begins.

    follows: it comes about by itself after one of the visitor's events, and stopped where they pressed Stop since.
    """

    name: str
    line: Callable[[Resources], Line]
    follows: bool = False


def stream_work(
    models: Models, visitor: str, model_name: str, kind: Kind, work: Work[V], shown: Shown[V]
) -> Iterator[V]:
    """What `work` yields with a model that stays loaded until its end, and what the page shows where it is silent.

    A task of the same kind that the visitor has under way is stopped. Ends and raises as `stream`; a model that was
    unloaded meanwhile is shown like any other failure.
    """
    tasks = models.resources.tasks
    task = (tasks.follow if kind.follows else tasks.begin)(visitor, kind.name)

    def with_model() -> Iterator[V]:
        with models.use(model_name, visitor) as (engine, capabilities):
            yield from work(engine, capabilities, task)

    yield from stream(task, kind.line(models.resources), with_model, shown)
