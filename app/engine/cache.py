"""A cache bounded in bytes, least recently used first, that computes each value once.

Two threads that ask for the same missing key share one computation (single-flight); one that fails fails for both,
and is forgotten; one that was stopped by whoever began it is begun anew by the other. Keys are content (hashes), so a
hit can only be the same pixels and question: no visitor is known here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from app.engine.device import CURRENT, DroppedError

T = TypeVar("T")


class ByteCache:
    """LRU of at most `limit` bytes. A value larger than the whole limit is returned and not kept."""

    def __init__(self, limit: int) -> None:
        if limit <= 0:
            raise ValueError(f"the cache limit is {limit} bytes: must be above 0")
        self.limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._flying: dict[Hashable, Future[Any]] = {}
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._held)

    def peek(self, key: Hashable) -> Any | None:
        """The value if it is held, else None; counts as a use."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The value for `key`, made at most once at a time. `size(value)` is what it weighs, in bytes."""
        while True:
            with self._lock:
                if key in self._held:
                    self._held.move_to_end(key)
                    held: T = self._held[key][0]
                    return held
                job = self._flying.get(key)
                if job is None:
                    job = self._flying[key] = Future()
                    break
            try:
                shared: T = job.result()
                return shared
            except DroppedError:  # by whoever began it: those who still want it begin anew
                task = CURRENT.get()
                if task is not None and task.is_set():
                    raise
        try:
            value = make()
            self.put(key, value, size(value))
        except BaseException as error:
            with self._lock:
                self._flying.pop(key, None)
            job.set_exception(error)
            raise
        with self._lock:
            self._flying.pop(key, None)
        job.set_result(value)
        return value

    def put(self, key: Hashable, value: Any, nbytes: int) -> None:
        """Hold `value`, dropping the least recently used until all fits."""
        with self._lock:
            if key in self._held:
                self._bytes -= self._held.pop(key)[1]
            if nbytes > self.limit:
                return
            self._held[key] = (value, nbytes)
            self._bytes += nbytes
            while self._bytes > self.limit:
                _, (_, freed) = self._held.popitem(last=False)
                self._bytes -= freed

    def take(self, key: Hashable) -> Any | None:
        """The value if it is held, else None; held no more, so that nobody else has it until it is put back."""
        with self._lock:
            value, nbytes = self._held.pop(key, (None, 0))
            self._bytes -= nbytes
            return value

    def discard(self, unwanted: Callable[[Hashable], bool]) -> None:
        """Forget every value whose key is unwanted."""
        with self._lock:
            for key in [key for key in self._held if unwanted(key)]:
                self._bytes -= self._held.pop(key)[1]

    def clear(self) -> None:
        """Forget everything held; computations under way still reach those who wait for them."""
        with self._lock:
            self._held.clear()
            self._bytes = 0
