"""Which models have to leave so that another one fits: arithmetic over bytes and uses, no model, no device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pruning.models.checkpoint.footprint import readable


class DoesNotFitError(ValueError):
    """A model does not fit. The message names cause and remedy; `short` is the cause in a few words."""

    def __init__(self, message: str, short: str) -> None:
        super().__init__(message)
        self.short = short


@dataclass(frozen=True)
class Candidate:
    """A loaded model that may have to leave: bytes of weights, when it was used last (monotonic seconds), whether
    anyone else needs it now.
    """

    name: str
    title: str
    nbytes: int
    used: float
    busy: bool
    first: bool = False  # the model that the app started with


def evictions(title: str, need: int, free: int, loaded: Sequence[Candidate], device: str) -> list[str]:
    """Names of the models to unload before one of `need` bytes is loaded: the least recently used first, the start-up
    model last, one that others use never.

    Raises DoesNotFitError where all that is idle does not make room enough.
    """
    leaving: list[str] = []
    room = free
    for candidate in sorted(loaded, key=lambda r: (r.first, r.used)):
        if room >= need:
            break
        if not candidate.busy:
            leaving.append(candidate.name)
            room += candidate.nbytes
    if room >= need:
        return leaving
    busy = [r for r in loaded if r.busy]
    shortage = f"{title} needs about {readable(need)}, and {readable(room)} can be had on {device}"
    if busy and room + sum(r.nbytes for r in busy) >= need:
        names = " and ".join(f"{r.title} ({readable(r.nbytes)})" for r in busy)
        is_ = "is" if len(busy) == 1 else "are"
        raise DoesNotFitError(
            f"{shortage}: {names} {is_} in use by another visitor, and both do not fit. Try again in a few minutes, or "
            "choose a smaller model",
            "no room while others use theirs",
        )
    raise DoesNotFitError(
        f"{shortage}: choose a smaller model, or start the app with --quantization 4bit, on a larger device, or with "
        "--device cpu where the machine has more memory",
        f"{readable(room)} to be had",
    )
