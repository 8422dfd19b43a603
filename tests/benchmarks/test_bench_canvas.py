"""The benchmark of the live canvas: every style draws its frames, and their work is timed."""

from __future__ import annotations

from benchmarks.canvas import measured
from pruning.drawing.overlays import STYLES


def test_every_style_is_timed(uploads, chromium) -> None:
    rows = measured(chromium, 36, 3)
    assert [row.style for row in rows] == [style for style in STYLES if style != "merged"]
    assert all(row.tokens == 36 and row.times.runs == 3 for row in rows)
    assert all(0 < row.times.median_ms <= row.times.p95_ms for row in rows)
