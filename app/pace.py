"""How long work under way will still take: one estimate for all that says so."""

from __future__ import annotations

from dataclasses import dataclass

KNOWN = 0.02  # share done from which on the pace says something about the rest


@dataclass(frozen=True)
class Pace:
    """So much was `done` of `total`, in pieces, bytes or shares of 1, in so many seconds."""

    seconds: float
    done: float
    total: float

    @property
    def remaining_s(self) -> float | None:
        """Seconds to come if it goes on as it went so far; None before a fiftieth of it is done."""
        if self.done <= 0 or self.done < KNOWN * self.total:
            return None
        return self.seconds / self.done * max(0.0, self.total - self.done)
