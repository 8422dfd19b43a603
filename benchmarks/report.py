"""What the page's benchmarks print: the machine and a Markdown table, or the same as one JSON object."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pruning.cli import console
from pruning.evaluation.timing import machine


@dataclass(frozen=True)
class Times:
    """Milliseconds of several runs; None where there was none."""

    runs: int
    median_ms: float | None
    p95_ms: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        """From the seconds of each run."""
        if not seconds:
            return cls(0, None, None)
        median, p95 = np.percentile(np.asarray(seconds) * 1e3, [50, 95])
        return cls(len(seconds), round(float(median), 2), round(float(p95), 2))

    @property
    def cells(self) -> tuple[str, str]:
        """Median and 95th percentile for a table, with their unit."""
        return _shown(self.median_ms), _shown(self.p95_ms)


def _shown(ms: float | None) -> str:
    if ms is None:
        return "–"
    return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.1f} ms"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def show(found: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Print what was found: `text`, or `found` as JSON; in both with the machine."""
    where = machine()
    printed = console.as_json({"machine": where, **found}) if as_json else f"{where}\n\n{text}"
    sys.stdout.write(printed + "\n")
