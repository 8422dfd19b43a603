"""The race against one process per setting: on one picture both ways give the same answers."""

from __future__ import annotations

import json

import pytest

from benchmarks import race


def test_both_ways_are_measured_and_say_the_same(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    def here(what: str, *more: str, scenes: int, many: int) -> str:
        race.main([what, "--scenes", str(scenes), "--settings", str(many), *more])
        return capsys.readouterr().out

    monkeypatch.setattr(race, "_process", here)  # whose start takes most of the time
    race.main(["--scenes", "1", "--settings", "3", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["settings"], found["encoded"], found["pictures"], found["same"]) == (3, 1, 1, True)
    assert found["questions"] > 2
    assert 0 < found["overhead"] < 1
    assert len(race.settings()) == race.TWELVE


def test_memory_is_looked_at(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(race, "STEP", 2)
    race.main(["memory", "--rows", "5"])
    out = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in out.splitlines() if line[:3] in ("| 2", "| 4", "| 5")] == list("245")
