"""A model's load under way, which any number of visitors may watch."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from app.pace import Pace


@dataclass(frozen=True)
class Loading:
    """How far a load is. share: of its stage, 0 to 1, None where nobody knows; pace: the stage's, None likewise.
    seconds: since it began.
    """

    title: str
    stage: str
    share: float | None
    seconds: float
    pace: Pace | None


class StoppedError(ValueError):
    """Nobody wants the model any more."""


class LoadJob:
    """`tell` is called by whoever loads, `done` is set when it is over, with or without an `error`.

    owners: who waits for it, and how often. A load without any is called off at its next word.
    """

    def __init__(self, title: str, owner: str) -> None:
        self.title, self.done, self.owners = title, threading.Event(), Counter([owner])
        self.error: Exception | None = None
        self._started = self._since = time.monotonic()
        self._stage = "waiting for the model before it"
        self._share: float | None = None
        self._first = 0.0  # share at which the stage began: a download may go on where it was

    def tell(self, stage: str, share: float | None) -> None:
        """Raises StoppedError where nobody waits any more."""
        if not self.owners:
            raise StoppedError(f"Loading {self.title} was stopped: choose it again to go on")
        if stage != self._stage:
            self._since, self._first = time.monotonic(), share or 0.0
        self._stage, self._share = stage, share

    def leave(self, owner: str) -> None:
        """One who waited does so no more."""
        self.owners[owner] -= 1
        self.owners += Counter()  # keeps positive counts alone

    def progress(self) -> Loading:
        now, share = time.monotonic(), self._share
        pace = None if share is None else Pace(now - self._since, share - self._first, 1 - self._first)
        return Loading(self.title, self._stage, share, now - self._started, pace)
