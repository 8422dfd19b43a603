"""Wall-clock times side by side in one process: warmed up, several runs, median and range.

How often a selection and a first token are timed is decided here, for the page, the API and the command line.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from pruning.choosing import choose
from pruning.encoding import EncodingMethod
from pruning.signals import LATER

if TYPE_CHECKING:
    from pruning.choosing import Asked
    from pruning.grids import Scope
    from pruning.models import VLM, Encoded, Turn
    from pruning.models.values import Kept
    from pruning.tokens import VisualTokens

MOST, ENOUGH = 5, 0.25  # runs at most, and seconds after which no further run begins
SELECTIONS = 3  # selections at least: they cost little and vary much


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


def several(run: Callable[[], float], least: int = 1, most: int = MOST) -> tuple[float, ...]:
    """What up to `most` runs say, at least `least`; after a quarter of a second no more begin than those."""
    results: list[float] = []
    start = time.perf_counter()
    while len(results) < least or (len(results) < most and time.perf_counter() - start < ENOUGH):
        results.append(run())
    return tuple(results)


def signals_anew(vlm: VLM, encoded: Encoded, question: str, needs: frozenset[str]) -> VisualTokens:
    """The tokens with what follows from features and question computed anew: scorer, words, trained modules."""
    own = {name: value for name, value in encoded.tokens.signals.items() if name not in LATER}
    return vlm.tokens(replace(encoded, tokens=replace(encoded.tokens, signals=own)), question, needs)


def selection_seconds(
    asked: Asked, fresh: Callable[[], VisualTokens], retention: float, per: Scope, layers: int
) -> float:
    """Median of three to five choices of what runs in a model of L layers, from the features on.

    fresh: gives the tokens, `signals_anew`, since a scorer or a trained module is part of what a choice costs. What is
    chosen between layers is no part of it, but of the time to the first token; for another encoding nothing is chosen.
    Raises ValueError as `choose`.
    """
    if isinstance(asked, EncodingMethod):
        return 0.0

    def once() -> float:
        start = time.perf_counter()
        tokens = replace(fresh())  # a copy without the computed similarity
        choose(asked, tokens, layers, retention, per)
        return time.perf_counter() - start

    return statistics.median(several(once, SELECTIONS))


def first_token_seconds(
    vlm: VLM, encoded: Encoded, question: str, kept: Kept, history: Sequence[Turn] = (), most: int = MOST
) -> tuple[float, ...]:
    """Seconds to the first token of up to `most` runs, the prompt read from its start each time."""

    def once() -> float:
        with closing(vlm.generate(encoded, question, kept, history=history, max_new_tokens=1)) as chunks:  # type: ignore[type-var]
            return float(next(chunks).seconds)

    return several(once, most=most)


def machine() -> str:
    """What the times were measured on, in a line."""
    processor = platform.processor() or platform.machine()
    return f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}"
