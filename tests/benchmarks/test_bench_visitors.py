"""The benchmark of many visitors: what it calls right is right, what it calls wrong is wrong, and it tells both."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from gradio_client import Client

from benchmarks import server, visitor_page, visitors
from benchmarks.server import Memory
from benchmarks.visitor_cases import Call, invite
from pruning.models import load


@pytest.fixture(scope="module")
def vlm():
    return load()


@pytest.fixture(scope="module")
def invited(vlm, tmp_path_factory):
    return invite(vlm, tmp_path_factory.mktemp("visitors"), 2, 3)


@pytest.fixture(scope="module")
def client(shipped_page):
    client = Client(shipped_page.url, verbose=False, download_files=False, analytics_enabled=False)
    yield client
    client.close()


def test_visitors_and_a_page_get_what_the_library_gives(shipped_page, chromium, vlm, monkeypatch) -> None:
    monkeypatch.setattr(visitor_page, "EVERY", 0.05)
    load = visitors.Load(2, 4.0, (0.05, 0.1), 3)
    found = visitors.measured(vlm, chromium, shipped_page.url, os.getpid(), load)
    rows = {row.what: row for row in visitors.rows(found)}
    assert [call for call in found.calls if call.error or call.wrong] == []
    assert sum(rows[endpoint].calls for endpoint in visitors.SHARES) >= 4
    for what in (visitor_page.PAINTED, visitor_page.WORK, visitor_page.EXACT, visitor_page.ANSWER):
        assert rows[what].calls
        assert 0 < rows[what].times.median_ms < 60_000
    assert rows[visitor_page.WORK].times.median_ms < rows[visitor_page.PAINTED].times.median_ms
    assert found.memory.start_mb > 100
    shown = visitors.text(load, found)
    assert all(f"| {what} | {row.calls:,} | 0 | 0 |" in shown for what, row in rows.items())
    json.dumps([asdict(row) for row in rows.values()], allow_nan=False)


@pytest.mark.slow
def test_every_endpoint_is_called_and_checked(client, invited) -> None:
    for endpoint in visitors.SHARES:
        call = visitors.asked(client, 0, invited, invited[0].cases[0], endpoint)
        assert (call.what, call.error, call.wrong) == (endpoint, "", "")


def test_another_visitor_s_result_is_told_with_their_name(client, invited) -> None:
    mine, theirs = invited[0].cases[0], invited[1].cases[0]
    got = visitors.asked(client, 1, invited, replace(mine, given=theirs.given), "/select").wrong
    assert "the library gives" in got
    assert got.endswith("it is right for visitor-1")
    swapped = replace(mine, full="nothing")
    assert "nothing" in visitors.asked(client, 0, invited, swapped, "/answer").wrong


def test_a_refused_call_is_an_error_with_its_text(client, invited) -> None:
    case = invited[0].cases[0]
    bad = replace(case, given={**case.given, "method": "no-such-method"})
    call = visitors.asked(client, 0, invited, bad, "/select")
    assert "no-such-method" in call.error
    assert call.wrong == ""
    row = visitors.rows(visitors.Found([call], Memory(1, None, 1, None)))[0]
    assert (row.calls, row.errors, row.wrong, row.times.runs) == (1, 1, 0, 0)


def test_a_canvas_that_shows_something_else_is_told(shipped_page, chromium, vlm, invited, monkeypatch) -> None:
    monkeypatch.setattr(visitor_page, "EVERY", 0.01)
    orders = {weight: order[::-1] for weight, order in visitor_page.orders(vlm, invited[0].picture).items()}
    page = visitor_page.PageVisitor(chromium, shipped_page.url, invited[0].picture, orders)
    page.drag()
    released = [call for call in page.stay(time.monotonic()) if call.what == visitor_page.EXACT]
    assert released
    assert all("the library keeps" in call.wrong for call in released)


def test_memory_is_told_with_its_slope() -> None:
    flat = [(float(t), 500.0 + min(t, 40)) for t in range(0, 121, 2)]
    assert Memory.of(flat) == Memory(500.0, 530.0, 540.0, 0.0)
    leaking = [(float(t), 500.0 + t / 60) for t in range(0, 21, 2)]
    assert Memory.of(leaking) == Memory(500.0, None, 500.3, 1.0)
    assert Memory.of([(0.0, 7.0)]) == Memory(7.0, None, 7.0, None)


def test_memory_is_that_of_all_processes() -> None:
    with server.watched(os.getpid()) as samples:
        assert len(samples) == 1
    assert len(samples) == 2
    assert samples[-1][1] == pytest.approx(server.loaded_model(os.getpid()) / 1e6, rel=0.2)


def test_the_server_is_waited_for_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for app.py, which says what that says and stays."""
    monkeypatch.setattr(server, "ROOT", tmp_path)
    (tmp_path / "app.py").write_text(
        "import sys, time\nprint('loading', flush=True)\n"
        "print('IDPruner Lab: http://127.0.0.1:' + sys.argv[2] + '/', flush=True)\ntime.sleep(60)\n"
    )
    with server.started(tmp_path / "log") as (url, pid):
        assert url.startswith("http://127.0.0.1:")
        assert server.complaints(tmp_path / "log") == ["loading"]
        assert server.loaded_model(pid) > 1e6
    assert server.loaded_model(pid) == 0


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ROOT", tmp_path)
    (tmp_path / "app.py").write_text("raise SystemExit('the model is missing')")
    with pytest.raises(RuntimeError, match="the model is missing"), server.started(tmp_path / "log"):
        pass


def test_problems_are_counted_by_their_text() -> None:
    calls = [Call("/select", 0.1, "ValueError: full")] * 3 + [Call("/answer", 0.2, wrong="gave 1")]
    shown = visitors.text(visitors.Load(2, 1, (0, 1), 1), visitors.Found(calls, Memory(1, 2, 3, 0.5)))
    assert "3 × /select: ValueError: full" in shown
    assert "1 × /answer: gave 1" in shown
    assert "| 1 MB | 2 MB | 3 MB | +0.5 MB/min |" in shown
