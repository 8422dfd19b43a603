"""The benchmark of the curves on the page: it ticks what it is asked to, and times the first point and the last."""

from __future__ import annotations

import time

import pytest

from app.examples import EXAMPLES
from benchmarks.curves import measured


@pytest.mark.slow
def test_curves_of_staged_methods_are_timed(shipped_page, chromium, monkeypatch) -> None:
    vlm, forced = shipped_page.engine.vlm, shipped_page.engine.vlm.logprobs

    def slow(*given, **named):
        time.sleep(0.2)  # a page that is busy may draw the first point and the last one in one frame
        return forced(*given, **named)

    monkeypatch.setattr(vlm, "logprobs", slow)
    (row,) = measured(chromium, shipped_page.url, ("random", "fastv"), [EXAMPLES[0].name])
    assert 9 < row.points < 18, "FastV's schedule does not come to the lowest retentions"
    assert 0 < row.first_ms < row.all_ms
