"""Wall-clock times side by side in one process: warmed up, several runs, median and range."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of several runs."""

    median_ms: float
    low_ms: float
    high_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """From the seconds of each run, at least one."""
        return cls(statistics.median(seconds) * 1e3, min(seconds) * 1e3, max(seconds) * 1e3)


class Stopwatch:
    """A function that adds up the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *args: Any) -> Any:
        start = time.perf_counter()
        try:
            return self.function(*args)
        finally:
            self.seconds += time.perf_counter() - start


def measure(run: Callable[[], object], repeats: int) -> Timing:
    """Time `run`, after one run that does not count."""
    run()
    watch = Stopwatch(run)
    times = []
    for _ in range(repeats):
        watch.seconds = 0.0
        watch()
        times.append(watch.seconds)
    return Timing.of(times)


def machine() -> str:
    """What the times were measured on, in a line."""
    processor = platform.processor() or platform.machine()
    return f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}"
