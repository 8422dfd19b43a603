"""A model's load under way, which any number of visitors may watch."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

KNOWN = 0.02  # share done from which on the pace says something about the rest


@dataclass(frozen=True)
class Loading:
    """How far a load is. share: 0 to 1, None where nobody knows. seconds: since it began."""

    title: str
    stage: str
    share: float | None
    seconds: float
    remaining_s: float | None


class Flight:
    """`tell` is called by whoever loads, `done` is set when it is over, with or without an `error`."""

    def __init__(self, title: str, owner: str) -> None:
        self.title, self.done, self.owners = title, threading.Event(), {owner}
        self.error: Exception | None = None
        self._started = self._since = time.monotonic()
        self._stage = "waiting for the model before it"
        self._share: float | None = None

    def tell(self, stage: str, share: float | None) -> None:
        if stage != self._stage:
            self._since = time.monotonic()
        self._stage, self._share = stage, share

    def progress(self) -> Loading:
        now, share = time.monotonic(), self._share
        left = (now - self._since) * (1 - share) / share if share and share > KNOWN else None
        return Loading(self.title, self._stage, share, now - self._started, left)
