"""The smallest pieces of the page's HTML: a line of advice, a bar of progress, numbers with units."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from app.pace import Pace
from app.web.templates import render

NONE = "–"
FLOPS = ("F", "kF", "MF", "GF", "TF", "PF")  # units of a prefill
SIGNS = {"info": "ℹ", "warn": "⚠"}


def notice(message: str, kind: str = "info") -> Markup:
    """One line of advice; empty text gives an empty fragment. `kind`: info, warn."""
    return render("parts.notice", message=message, kind=kind, sign=SIGNS[kind]) if message else Markup()


def progress(words: str, label: str = "", done: int = 0, total: int = 0) -> Markup:
    """How far something is, in words; with a `label`, which says what `done` and `total` count, as a bar as well."""
    return render("parts.progress", words=words, label=label, done=done, total=max(1, total))


def waiting(place: int) -> str:
    """What is said of work whose turn has not come; place: 1 = next."""
    return f"Waiting: place {place} in the queue"


def quantity(value: float, units: Sequence[str], base: float) -> str:
    """Three significant figures with the unit that fits: quantity(12_600_000, ["", "k", "M"], 1000) is "12.6 M"."""
    place = 0
    while value >= base * 0.9995 and place < len(units) - 1:
        value, place = value / base, place + 1
    digits = 0 if place == 0 and value == int(value) else max(0, 2 - len(str(int(value))) + 1)
    return f"{value:.{digits}f} {units[place]}".strip()


def size(nbytes: int) -> str:
    """ "16.6 GB", "24 MB": decimal units, as checkpoints and devices are labelled."""
    return quantity(nbytes, ["B", "kB", "MB", "GB", "TB"], 1000)


def seconds(value: float) -> str:
    """A measured time with its unit: "1.23 s", "45.6 ms"."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def to_come(pace: Pace | None) -> str:
    """How long work under way will still take, ", about 6 s left"; empty where that is not known, or it is over."""
    remaining = None if pace is None else pace.remaining_s
    return f", about {duration(max(1, remaining))} left" if remaining else ""
