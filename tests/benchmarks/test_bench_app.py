"""The benchmark of the page's server: every piece of work is timed, and done anew each time."""

from __future__ import annotations

import json

import pytest

from app.canvas import state as canvas_state
from benchmarks import app as bench
from benchmarks.report import Times, table
from pruning.drawing.overlays import STYLES
from pruning.models import load
from tests.helpers.serving import Shelf, models_of

SIDE, TOKENS = 112, 16


@pytest.fixture(scope="module")
def models():
    vlm = load()
    vlm.world = None  # as the benchmark does: its pictures lie in no world
    return models_of(Shelf({vlm.model_id: vlm}))


def test_every_piece_of_work_is_timed(models) -> None:
    rows = bench.measured(models, SIDE, 2)
    assert {row.tokens for row in rows} == {TOKENS}
    assert all(row.times.runs in (1, 2) and 0 < row.times.median_ms <= row.times.p95_ms for row in rows)
    names = " ".join(row.what for row in rows)
    for part in ("vision tower", "21 λ", "of the grid", "beside the grid", "card", *STYLES, "drawing", "first point"):
        assert part in names


def test_a_new_image_is_encoded_and_nothing_more(models) -> None:
    with bench.opened(models, SIDE) as subject:
        engine, session, setting = subject.engine, subject.session, subject.setting
        known = canvas_state.payload(engine, session, setting)
        assert canvas_state.payload(engine, session, setting) is known
        subject.forget()
        assert canvas_state.payload(engine, session, setting) is not known
        subject.forget()
        encoded = engine.encoded(session)
        assert engine.encoded(session) is encoded


def test_settling_asks_for_a_new_order_at_every_weight(models) -> None:
    with bench.opened(models, SIDE) as subject:
        subject.forget()
        held = len(subject.engine.cache)
        for weight in (0.71, 0.72, 0.72):
            subject.settle(weight, 0.25)
        assert len(subject.engine.cache) == held + 2


def test_it_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["--side", str(SIDE), "--runs", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert "threads" in found["machine"]
    assert {row["tokens"] for row in found["rows"]} == {TOKENS}
    bench.main(["--side", str(SIDE), "--runs", "1"])
    shown = capsys.readouterr().out
    assert all(row["what"] in shown for row in found["rows"])


def test_times_are_milliseconds_and_none_where_nothing_ran() -> None:
    assert Times.of([0.001] * 19 + [1.001]).cells == ("1.0 ms", "51.0 ms")
    assert Times.of([2.5]).cells == ("2,500 ms", "2,500 ms")
    assert Times.of([]).cells == ("–", "–")
    assert table(["a", "b"], [["1", "2"]]).splitlines() == ["| a | b |", "|---|---|", "| 1 | 2 |"]
