"""Work that tells a page how it goes: it waits for its turn, has news, and ends in a state, whatever happens to it.

The work runs in a thread of its own and never waits for the page. So the page can be told while the work is silent:
its place in the line where it waits, and that it was stopped.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Generic, TypeVar

from app.engine.device import TICK, DroppedError, Line, Task, working
from app.web.errors import message_for

V = TypeVar("V")

GRACE = 0.4  # seconds that stopped work has to say by itself what came of it


@dataclass(frozen=True)
class Shown(Generic[V]):
    """What the page shows where the work says nothing itself.

    waiting: of a place in line, 1 = next. stopped: at the end of work that was stopped. failed: of cause and remedy.
    """

    waiting: Callable[[int], V]
    stopped: Callable[[], V]
    failed: Callable[[str], V]


@dataclass(frozen=True)
class _End:
    error: Exception | None = None


def stream(task: Task, line: Line, work: Callable[[], Iterator[V]], shown: Shown[V]) -> Iterator[V]:
    """The items of `work`, which begins when its turn in `line` has come and has it until its end.

    Ends within a second after `task` is set, and with no more to show once it is over. Whatever the work raises is
    shown, and then raised as its visitor's message. Closing the iterator sets `task`.
    """
    out: Queue[V | _End] = Queue()

    def run() -> None:
        end = _End(RuntimeError("the work broke off"))
        try:
            with working(task), line.turn(), closing(work()) as items:  # type: ignore[type-var]
                for item in items:
                    out.put(item)
            end = _End()
        except Exception as error:
            end = _End(error)
        finally:
            out.put(end)

    # In the visitor's context: a ZeroGPU Space looks there for whose GPU time this is.
    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="work", daemon=True).start()
    try:
        for news in _told(task, out, shown):
            if task.over:  # what came after it may be shown already
                return
            yield news
    finally:
        task.set()


def _told(task: Task, out: Queue[V | _End], shown: Shown[V]) -> Iterator[V]:
    last: list[V] = []
    place, silent = 0, 0.0
    while True:
        try:
            item = out.get(timeout=TICK)
        except Empty:
            now = time.monotonic()
            if task.is_set():
                silent = silent or now
                if now - silent >= GRACE:  # the thread will find that out, nobody has to wait for it
                    yield shown.stopped()
                    return
            elif task.place != place:
                place = task.place
                yield from [shown.waiting(place)] if place else last
            continue
        if not isinstance(item, _End):
            last, place = [item], 0
            yield item
        elif item.error is None:
            return
        elif isinstance(item.error, DroppedError):
            yield shown.stopped()
            return
        else:
            message = message_for(item.error)
            yield shown.failed(message.message)
            raise message
