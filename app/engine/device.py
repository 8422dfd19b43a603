"""One device that serves one piece of work at a time, the lines in which work waits for its turn, and the tasks that
visitors may stop. No Gradio, no model.

The device's line is the innermost one: work on the device asks neither the cache nor the engine for anything.
"""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")

TICK = 0.2  # seconds between two looks at whether what waits was stopped


class DeviceFullError(RuntimeError):
    """The device ran out of memory, even after every cached value was dropped. The message says what to do."""


class DroppedError(Exception):
    """The work was stopped before its turn came: nothing of it has begun."""


class RiddenError(Exception):
    """The work was done in another piece's turn."""


@dataclass(eq=False)
class Ride:
    """Work that another piece may do in its own turn. begun: one does so now; over: it is done."""

    begun: bool = False
    over: bool = False


class Task(threading.Event):
    """Set to stop one visitor's work. place: in the line where the work waits now, 1 = next; 0 = it does not wait.
    over: a later one of its kind has begun, whose news are shown in the place of this one's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place, self.over = 0, False


CURRENT: ContextVar[Task | None] = ContextVar("task", default=None)  # whose work this thread does


@contextmanager
def working(task: Task) -> Iterator[None]:
    """What waits for a turn in this block does so for `task`: it tells its place there, and ends when it is set."""
    token = CURRENT.set(task)
    try:
        yield
    finally:
        CURRENT.reset(token)


class Tasks:
    """Who has what under way. Holds no task itself: one that is over is forgotten with its last reference."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: WeakValueDictionary[tuple[str, str], Task] = WeakValueDictionary()
        self._halted: set[str] = set()

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, owner: str, kind: str) -> Task:
        """A new task of `owner`; an earlier one of the same kind is stopped. Forgotten with its last reference."""
        self.resume(owner)
        return self.follow(owner, kind)

    def follow(self, owner: str, kind: str) -> Task:
        """`begin` for work that one of the owner's events brings about by itself: it comes stopped where they have
        halted everything since that event.
        """
        task = Task()
        with self._lock:
            if owner in self._halted:
                task.set()
            earlier = self._running.get((owner, kind))
            self._running[owner, kind] = task
        if earlier is not None:
            earlier.over = True
            earlier.set()
        return task

    def stop(self, owner: str, *kinds: str, but: Sequence[str] = ()) -> None:
        """Stop the owner's tasks of these kinds; of all kinds where none is named, `but` those."""
        with self._lock:
            running = [(kind, task) for (who, kind), task in self._running.items() if who == owner]
        tasks = [task for kind, task in running if (kind in kinds if kinds else kind not in but)]
        for task in tasks:
            task.set()

    def halt(self, owner: str) -> None:
        """Stop all that the owner has under way, and what would follow from it by itself, until they `resume`."""
        with self._lock:
            self._halted.add(owner)
        self.stop(owner)

    def resume(self, owner: str) -> None:
        """The owner wants something anew."""
        with self._lock:
            self._halted.discard(owner)


class Line:
    """First come, first served: `at_once` pieces of work have their turn, at most `most` wait for theirs."""

    def __init__(self, at_once: int = 1, most: int | None = None) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._free, self._at_once, self._most = at_once, at_once, most

    @contextmanager
    def turn(self, ride: Ride | None = None) -> Iterator[None]:
        """A turn for the current task, once all who came before have had theirs.

        Raises DroppedError where the task is set, or soon after it is while it waits; RiddenError where `ride` is over
        before; ValueError where too many wait already.
        """
        task, ticket = CURRENT.get() or Task(), object()
        with self._changed:
            if self._most is not None and len(self._waiting) >= self._most:
                raise ValueError(f"{self._most} others wait for this already: try again in some minutes")
            self._waiting.append(ticket)
            try:
                while True:
                    if task.is_set():
                        raise DroppedError("stopped before its turn came")
                    if ride is not None and ride.over:
                        raise RiddenError
                    if self._free and self._waiting[0] is ticket:
                        break
                    riding = ride is not None and ride.begun
                    task.place = 0 if riding else self._waiting.index(ticket) + 1
                    self._changed.wait(TICK)
                self._free -= 1
            finally:
                task.place = 0
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for a turn."""
        return bool(self._waiting)

    def idle_within(self, seconds: float) -> bool:
        """Whether within that time nobody has a turn or waits for one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._free == self._at_once and not self._waiting, seconds)


class Device:
    """Runs work alone. When memory runs out, `drop` frees what it can, and the work is tried once more."""

    def __init__(self, drop: Callable[[], None]) -> None:
        self._line, self._drop = Line(), drop

    def run(
        self,
        work: Callable[[], T],
        remedy: str = "close other programs that use the device",
        ride: Ride | None = None,
    ) -> T:
        """The result of `work`. Raises DeviceFullError with `remedy`, DroppedError, RiddenError where `ride` is over
        before its turn comes, or whatever the work raises.
        """
        with self._line.turn(ride):
            try:
                return work()
            except Exception as error:
                if not out_of_memory(error):
                    raise
            self._drop()
            release_memory()
            try:
                return work()
            except Exception as error:
                if not out_of_memory(error):
                    raise
        release_memory()
        raise DeviceFullError(remedy)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for it."""
        return self._line.awaited

    def idle_within(self, seconds: float) -> bool:
        """Whether the device becomes free in that time."""
        return self._line.idle_within(seconds)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a device."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def release_memory() -> None:
    """Give back what nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
