"""Stacked bars: as long as the times they stand for, one group below the other."""

import pytest

from pruning.drawing.bars import Bar, bars

GIVEN = [
    Bar("1 at once", "All tokens", {"encode": 10.0, "prefill": 30.0}),
    Bar("1 at once", "IDPruner", {"encode": 10.0, "prefill": 5.0}),
    Bar("4 at once", "All tokens", {"encode": 40.0, "prefill": 90.0}),
]


def test_bars_are_as_long_as_their_times() -> None:
    chart = bars(GIVEN)
    first, second = chart.figure.axes
    assert [patch.get_width() for patch in first.patches] == [10, 30, 10, 5]
    assert [patch.get_x() for patch in first.patches] == [0, 10, 0, 10]
    assert [text.get_text() for text in first.texts] == ["All tokens", "IDPruner"]
    assert [axes.get_title("left") for axes in (first, second)] == ["1 at once", "4 at once"]
    assert [text.get_text() for text in chart.figure.legends[0].get_texts()] == ["encode", "prefill"]
    assert "1 at once, IDPruner: 15 ms" in chart.summary
    assert chart.png()[:4] == b"\x89PNG"
    assert chart.svg().startswith("<svg ")


def test_nothing_is_no_chart() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        bars([])
