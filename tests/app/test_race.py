"""Races on the page: what is shown of runs, who may start them, and why two settings differ."""

from __future__ import annotations

import json
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from app.engine.engine import Engine
from app.engine.resources import Resources
from app.race import views as race_views
from app.race.page import _ratios
from app.race.pair import page_setting, painted, shown_to, taken_of
from app.race.runs import Races, Wanted, differing
from pruning.method import make
from pruning.plan import parse_plan
from pruning.race.data import open_data
from pruning.race.folder import MANIFEST, RESULTS, Cell, Result, Run, append
from pruning.race.loop import Race
from pruning.race.report import REPORT
from pruning.race.settings import ALL, Setting, settings_of, told
from pruning.staged import make_staged
from pruning.video import open_clip
from tests.helpers.clips import film
from tests.helpers.races import SAID, run, scenes_run
from tests.helpers.serving import serve
from tests.helpers.visits import visit


def until(holds, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


def test_runs_are_read_as_they_stand(tmp_path: Path) -> None:
    races = Races(tmp_path, False)
    assert races.names() == []
    assert Races(tmp_path / "none", False).names() == []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        told = run(tmp_path / name, SAID)
    os.utime(tmp_path / "old" / RESULTS, (1, 1))
    os.utime(tmp_path / "old" / MANIFEST, (1, 1))
    (tmp_path / "no run").mkdir()
    assert races.names() == ["new", "old"]
    assert len(races.table("new")) == 3
    cells = {name: Cell("yes", 1.0) for name in SAID}
    append(told.path / RESULTS, Result("7", 7, "7", answers=("yes",), metric="yes_no", digest="7", cells=cells).line())
    assert [row["n"] for row in races.table("new")] == [7, 7, 7], "of what nobody is at work on nothing old is shown"
    for name in ("../new", "", None, "no run", "gone"):
        with pytest.raises(ValueError, match="there is no run"):
            races.run(name)
    (tmp_path / "old" / MANIFEST).write_text("{")
    assert "is damaged" in races.listed("old").problem
    assert "is damaged" in race_views.status(races.listed("old"), False)


def test_a_race_is_started_stopped_and_resumed(models, tmp_path: Path) -> None:
    races, wanted = Races(tmp_path / "runs", True), Wanted("scenes", {"random": make("random")}, (0.25,), 12)
    name = races.start(models, models.first, wanted)
    assert (name, races.names()) == ("scenes-1", ["scenes-1"])
    until(lambda: races.listed(name).done >= 1)
    with pytest.raises(ValueError, match="is at work: there is nothing to resume"):
        races.resume(models, models.first, name)
    races.stop(name)
    until(lambda: races.listed(name).state != "running")
    assert (races.listed(name).state, races.listed(name).problem) == ("stopped", "")
    kept = (tmp_path / "runs" / name / RESULTS).read_bytes()
    races.resume(models, models.first, name)
    until(lambda: (tmp_path / "runs" / name / REPORT).exists() and races.listed(name).state == "done")
    assert (tmp_path / "runs" / name / RESULTS).read_bytes().startswith(kept), "what was asked is not asked again"
    assert (races.listed(name).done, races.listed(name).settings) == (12, 2)


def test_a_long_race_waits_for_a_yes_to_its_estimate(models, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("app.race.runs.UNASKED", 0.0)
    races = Races(tmp_path / "runs", True)
    name = races.start(models, models.first, Wanted("scenes", {"random": make("random")}, (0.25,), 3))
    until(lambda: races.listed(name).state == "new")
    waiting = races.listed(name)
    assert waiting.estimate.startswith("3 rows are left: 6 answers, about ")
    assert waiting.estimate in race_views.status(waiting, True)
    assert races.report(name) is None, "nothing has been asked"
    races.resume(models, models.first, name)
    until(lambda: races.listed(name).state == "done")
    assert (races.listed(name).done, races.listed(name).estimate) == (3, "")


def test_what_cannot_be_raced_says_why(models, tmp_path: Path) -> None:
    races = Races(tmp_path / "runs", True)
    with pytest.raises(ValueError, match="no method is chosen"):
        races.start(models, models.first, Wanted("scenes", {}, (0.25,)))
    with pytest.raises(ValueError, match="is not there: name a world"):
        races.start(models, models.first, Wanted("nowhere.jsonl", {"random": make("random")}, (0.25,)))
    (tmp_path / "bad.jsonl").write_text('{"image": "none.png", "question": "what?", "answers": ["a"]}\n')
    name = races.start(models, models.first, Wanted(str(tmp_path / "bad.jsonl"), {"random": make("random")}, (0.25,)))
    until(lambda: races.listed(name).problem)
    assert "nothing to ask: row 1" in races.listed(name).problem
    other = scenes_run(tmp_path / "runs" / "other", "another-model", 1)
    (other.path / "progress.json").unlink()
    with pytest.raises(ValueError, match="other asks Tiny: choose that model"):
        races.resume(models, models.first, "other")


def test_visitors_start_and_stop_nothing(models, tmp_path: Path) -> None:
    told, races = scenes_run(tmp_path / "a", models.first, 1), Races(tmp_path, False)
    asked = Wanted("scenes", {"random": make("random")}, (0.25,))
    for act in (
        lambda: races.start(models, models.first, asked),
        lambda: races.resume(models, models.first, "a"),
        lambda: races.stop("a"),
    ):
        with pytest.raises(ValueError, match="whoever runs this app"):
            act()
    assert not (told.path / "stop").exists()


def test_questions_where_two_settings_differ_come_with_the_largest_difference_first() -> None:
    def result(row: int, a: Cell, b: Cell) -> Result:
        return Result(str(row), row, str(row), cells={"a": a, "b": b})

    given = [result(1, Cell(score=1), Cell(score=1)), result(2, Cell(score=0.5), Cell(score=0.8)),
             result(3, Cell(score=1), Cell()), result(4, Cell(error="x"), Cell(score=1)),
             result(5, Cell(), Cell(score=1))]  # fmt: skip
    assert [each.row for each in differing(given, "a", "b")] == [3, 5, 2]
    assert differing(given, "a", "a") == []


def test_what_each_kept_is_drawn_and_a_changed_picture_is_not(shipped_engine, tmp_path: Path) -> None:
    told = scenes_run(tmp_path / "a", shipped_engine.vlm.model_id, 1)
    result = next(iter(told.results()))
    both = painted(shipped_engine, told.manifest, result, ("idpruner@0.25", ALL))
    assert [(shown.kept, shown.n) for shown in both] == [(64, 256), (256, 256)]
    with pytest.raises(ValueError, match="is not there any more, or has changed"):
        painted(shipped_engine, told.manifest, replace(result, digest="0" * 64), (ALL, ALL))
    with pytest.raises(ValueError, match="choose that model on the view Explore"):
        painted(shipped_engine, replace(told.manifest, model="other"), result, (ALL, ALL))


@pytest.fixture
def clip_run(tiny_vlm, tmp_path: Path) -> Run:
    """A run of one question about a clip of 4 s, of which it took 4 frames; what all tokens say is true."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = film(folder / "a.mp4", 40, fps=10, size=(168, 112))
    said = tiny_vlm.answer(tiny_vlm.encode([open_clip(path, rate=1, frames=4)]), "what?", max_new_tokens=3).text
    (folder / "a.txt").write_text(f"what?\n{said}\n")
    data, settings = open_data(str(folder), fps=1, max_frames=4), settings_of({"evs": make("evs")}, [0.5])
    Race(tiny_vlm, tiny_vlm.model_id, data, settings, max_new_tokens=3).run(tmp_path / "runs" / "a", lambda _: True)
    return Run(tmp_path / "runs" / "a")


def test_what_each_kept_of_a_clip_is_a_sheet_of_the_frames_that_the_run_took(tiny_vlm, clip_run: Run) -> None:
    engine = Engine(tiny_vlm, Resources(64 << 20))
    (result,) = clip_run.results()
    both = painted(engine, clip_run.manifest, result, ("evs@0.5", ALL))
    assert [(shown.kept, shown.n) for shown in both] == [(24, 48), (48, 48)]
    path, question = shown_to(clip_run.manifest, result)
    given = Path(clip_run.manifest.source, "a.mp4").read_bytes()
    assert (Path(path).read_bytes(), question) == (given, "what?")
    assert taken_of(clip_run.manifest) == (1, 4)


def test_a_clip_of_a_race_goes_to_explore_with_its_frames(tiny_vlm, clip_run: Run, chromium) -> None:
    with serve(tiny_vlm, races=Races(clip_run.path.parent, True)) as app, visit(chromium, app.url) as tab:
        tab.get_by_role("tab", name="Race").click()
        tab.wait_for_selector("#race-status >> text=Done: 1 of 1 questions, 2 settings")
        for which, name in (("first", "EVS, 50 %"), ("second", "All tokens")):
            tab.click(f"#race-{which} input")
            tab.get_by_role("option", name=name, exact=True).click()
            tab.wait_for_selector("[role=option]", state="detached")
        tab.wait_for_selector(".race-asked >> text=1 of 1")
        assert tab.locator(".race-sides img").count() == 2
        tab.click("#race-explore")
        tab.locator("#note", has_text="4 of 40 frames, 1 a second").wait_for()
        tab.wait_for_selector("#readout >> text=24 of 48")
        assert tab.input_value("#frames-most input[type=number]") == "4"


def test_a_plan_of_a_run_is_one_on_the_page(tmp_path: Path) -> None:
    manifest = scenes_run(tmp_path / "a", "x", 1).manifest
    text = "pre:idpruner:0.4,1:fastv:0.5"
    plan = parse_plan(text, lambda name: make(name, mmr_lambda=0.2), make_staged)
    manifest = replace(manifest, settings={**manifest.settings, text: told(Setting(text, plan, None))})
    assert page_setting(manifest, text).asked == plan
    assert race_views.clicked(manifest, text) == {"plan": text}
    assert race_views.clicked(manifest, "idpruner@0.1")["knobs"]["mmr_lambda"] == 0.5


@pytest.mark.parametrize("text", ["", "a", "0.5 2", "0", "nan", None])
def test_retentions_that_are_none_are_refused(text) -> None:
    with pytest.raises(ValueError, match="numbers above 0 up to 1"):
        _ratios(text)


def test_the_view_shows_a_race_and_why_two_settings_differ(shipped_page, chromium, fits, tmp_path) -> None:
    with visit(chromium, shipped_page.url) as tab:
        tab.get_by_role("tab", name="Race").click()
        tab.wait_for_selector("#race-status >> text=Done: 10 of 10 questions, 7 settings")
        assert tab.locator("#race-resume, #race-stop").count() == 0
        points = [json.loads(each.get_attribute("data-setting")) for each in tab.locator("#race-chart .mark").all()]
        assert [point["method"] for point in points] == [
            m for m in ("idpruner", "random", "lower_resolution") for _ in "12"
        ]
        tab.get_by_role("button", name="Accuracy, %").click()
        assert tab.locator("#race-table tbody th").first.inner_text().startswith("Random")
        for which, name in (("first", "IDPruner, 25 %"), ("second", "Random, 25 %")):
            tab.click(f"#race-{which} input")
            tab.get_by_role("option", name=name, exact=True).click()
            tab.wait_for_selector("[role=option]", state="detached")
        tab.wait_for_selector(".race-asked >> text=1 of 5")
        assert tab.locator(".race-sides img").count() == 2
        assert tab.locator(".race-sides .badge").all_inner_texts() == ["right", "score 0"]
        tab.click("#race-next")
        tab.wait_for_selector(".race-asked >> text=2 of 5")
        fits(tab, "race")
        with tab.expect_download() as download:
            tab.click("#race-report")
        download.value.save_as(tmp_path / "report.zip")
        with zipfile.ZipFile(tmp_path / "report.zip") as packed:
            assert b"<h2>Accuracy against tokens</h2>" in packed.read("scenes-1/report.html")
            assert packed.read("scenes-1/table.csv").count(b"\n") == 8
        question = tab.inner_text(".race-asked").split("“")[1].split("”")[0]
        tab.click("#race-explore")
        tab.wait_for_selector("#readout >> text=64 of 256")
        assert tab.get_by_role("tab", name="Explore").get_attribute("aria-selected") == "true"
        assert tab.input_value("#question textarea") == question
        tab.wait_for_selector("#report .badge")
        tab.get_by_role("tab", name="Race").click()
        tab.locator("#race-chart .mark").nth(2).focus()
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#readout >> text=26 of 256")
        assert tab.get_by_role("tab", name="Explore").get_attribute("aria-selected") == "true"
        assert tab.input_value("#method input").startswith("Random")
