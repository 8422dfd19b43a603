"""A setting is dropped wrongly at most as often as allowed, whenever one looks; a worse one soon."""

from pathlib import Path

import numpy as np
import pytest

from pruning.models import SHIPPED, load
from pruning.race import early
from pruning.race.data import open_data
from pruning.race.early import Bet, Elimination, replay
from pruning.race.folder import Cell, Result, Run
from pruning.race.loop import Race
from pruning.race.report import stopped, write
from pruning.race.settings import ALL, settings_of
from tests.helpers.races import METHODS

SETTINGS = {name: {"method": name, "retention": 1.0 if name == ALL else 0.25} for name in (ALL, "a", "b", "c")}


def results(scores: dict[str, np.ndarray], per_picture: int = 1) -> list[Result]:
    """A result per score, so many in a row about one picture."""
    n = len(next(iter(scores.values())))
    return [
        Result(
            f"{i}", i, f"{i}", digest=f"{i // per_picture}", cells={k: Cell("", float(v[i])) for k, v in scores.items()}
        )
        for i in range(n)
    ]


def test_the_wealth_is_that_of_the_formula() -> None:
    d = np.random.default_rng(1).uniform(-1, 1, 40)
    bet, wealth, seen = Bet(), 1.0, [0.0]
    for value in d:
        mean = np.mean(seen)
        variance = (1 + np.var(seen) * len(seen)) / len(seen)
        wealth *= 1 - np.clip(-mean / (variance + mean**2), 0, 0.5) * value
        bet.see(value)
        seen.append(value)
        assert bet.wealth == pytest.approx(wealth)


def test_equals_are_seldom_dropped_however_often_one_looks() -> None:
    rng, level = np.random.default_rng(2), 0.2
    wrong = 0
    for _ in range(120):
        same = {name: rng.random(150) < 0.6 for name in SETTINGS}
        wrong += bool(replay(SETTINGS, level, results(same)).dropped)
    assert wrong / 120 <= level, "each of these is as good as the others"


def test_a_worse_one_goes_soon_and_the_best_stays() -> None:
    rng = np.random.default_rng(3)
    scores = {name: rng.random(400) < chance for name, chance in ((ALL, 0.9), ("a", 0.85), ("b", 0.3), ("c", 0.85))}
    found = replay(SETTINGS, 0.05, results(scores))
    (gone,) = found.dropped
    assert (gone.name, gone.better in "ac", gone.pictures == gone.rows) == ("b", True, True)
    assert gone.rows < 80
    assert found.alive == [ALL, "a", "c"]
    assert not found.decided
    without = {name: told for name, told in SETTINGS.items() if name != "c"}
    assert replay(without, 0.05, results(scores)).decided
    assert not replay({**without, "plan": {"retention": None}}, 0.05, results(scores)).decided


def test_questions_about_one_picture_count_once() -> None:
    one = {"a": np.ones(12), "b": np.zeros(12), ALL: np.ones(12)}
    two = {name: told for name, told in SETTINGS.items() if name in one}
    alone, together = replay(two, 0.5, results(one)), replay(two, 0.5, results(one, 12))
    assert [each.name for each in alone.dropped] == ["b"]
    assert together.dropped == []


def test_errors_and_settings_that_failed_count_for_nothing() -> None:
    found = Elimination(SETTINGS, 0.05)
    for i in range(30):
        found.see(Result(f"{i}", i, f"{i}", "no memory"))
        cells = {"a": Cell(score=1.0), "b": Cell(error="x"), "c": Cell(score=1.0)}
        found.see(Result(f"x{i}", i, f"{i}", digest=f"{i}", cells=cells))
    assert found.dropped == []


def test_a_race_asks_no_more_of_what_was_dropped_and_goes_on_the_same_after_a_break(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(early, "MOST_BET", 0.95)  # so that few pictures decide
    settings = settings_of({name: METHODS[name] for name in ("idpruner", "random")}, [0.05])
    vlm = load()

    def race(folder: Path, stop_at: int = 1000) -> Run:
        chosen = Race(
            vlm, str(SHIPPED), open_data("scenes", scenes=30), settings, max_new_tokens=4, until_told_apart=0.9
        )
        run = Run(folder)
        chosen.run(folder, lambda _: True, lambda done, rows: run.ask_to_stop() if done == stop_at else None)
        return run

    whole, broken = race(tmp_path / "whole"), race(tmp_path / "broken", 4)
    race(tmp_path / "broken")
    assert (broken.path / "results.jsonl").read_bytes() == (whole.path / "results.jsonl").read_bytes()
    found = list(whole.results())
    assert len(found) < whole.manifest.rows, "it ends when nothing is left to tell apart"
    write(whole)
    first, last = stopped(whole)
    assert first.startswith("Random, 5 % was dropped after ")
    assert first.endswith("IDPruner, 5 % is better")
    assert "the race is over" in last
    assert first in (whole.path / "report.html").read_text("utf-8")
