"""One device that serves one piece of work at a time, and the tasks that visitors may stop. No Gradio, no model.

The lock is the innermost one: work on the device asks neither the cache nor the engine for anything.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class DeviceFullError(RuntimeError):
    """The device ran out of memory, even after every cached value was dropped. The message says what to do."""


class Task(threading.Event):
    """Set to stop one visitor's work; a class of its own because an Event's owner is looked up weakly."""


class Tasks:
    """Who has what under way. Holds no task itself: one that is over is forgotten with its last reference."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: WeakValueDictionary[tuple[str, str], Task] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, owner: str, kind: str) -> Task:
        """A new task of `owner`; an earlier one of the same kind is stopped. Forgotten with its last reference."""
        task = Task()
        with self._lock:
            earlier = self._running.get((owner, kind))
            self._running[owner, kind] = task
        if earlier is not None:
            earlier.set()
        return task

    def stop(self, owner: str, *kinds: str, but: str = "") -> None:
        """Stop the owner's tasks of these kinds; of all kinds where none is named, `but` that one."""
        with self._lock:
            own = [(kind, task) for (who, kind), task in self._running.items() if who == owner]
        tasks = [task for kind, task in own if (kind in kinds if kinds else kind != but)]
        for task in tasks:
            task.set()


class Device:
    """Runs work alone. When memory runs out, `drop` frees what it can, and the work is tried once more."""

    def __init__(self, drop: Callable[[], None]) -> None:
        self._lock, self._drop = threading.Lock(), drop

    def run(self, work: Callable[[], T], remedy: str = "close other programs that use the device") -> T:
        """The result of `work`. Raises DeviceFullError with `remedy`, or whatever the work raises."""
        with self._lock:
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

    def idle_within(self, seconds: float) -> bool:
        """Whether the device becomes free in that time."""
        free = self._lock.acquire(timeout=seconds)
        if free:
            self._lock.release()
        return free


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a device."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def release_memory() -> None:
    """Give back what nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
