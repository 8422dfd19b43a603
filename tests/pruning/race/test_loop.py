"""A run that is cut off, disturbed or changed loses and doubles nothing."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pruning.choosing import Asked
from pruning.encoding import make_encoding
from pruning.method import make
from pruning.models import SHIPPED, load
from pruning.race import folder as folders
from pruning.race.data import open_data
from pruning.race.folder import Result, Run, Writer
from pruning.race.loop import Estimate, Race
from pruning.race.settings import setting_of, settings_of
from pruning.race.table import table
from pruning.video import open_clip
from tests.helpers.checkout import ROOT
from tests.helpers.clips import film

METHODS: dict[str, Asked] = {"random": make("random"), "lower_resolution": make_encoding("lower_resolution")}


@pytest.fixture(scope="module")
def race() -> Callable[..., Race]:
    vlm = load()

    def made(source: str = "scenes", retention: float = 0.25, scenes: int = 1) -> Race:
        data = open_data(source, metric="exact", scenes=scenes)
        return Race(vlm, str(SHIPPED), data, settings_of(METHODS, [retention]), max_new_tokens=4)

    return made


def yes(_: Estimate) -> bool:
    return True


def test_a_race_asks_each_row_once_and_encodes_each_picture_once(race, tmp_path: Path) -> None:
    told: list[Estimate] = []
    progress = race(scenes=2).run(tmp_path, lambda estimate: told.append(estimate) or True)
    results = list(Run(tmp_path).results())
    assert progress.done == len(results) == Run(tmp_path).manifest.rows == told[0].rows
    assert progress.encoded == 2
    assert all(list(r.cells) == ["all tokens", "random@0.25", "lower_resolution@0.25"] for r in results)
    assert all(c.score == (c.said == r.answers[0]) for r in results for c in r.cells.values())
    assert Run(tmp_path).state() == "done"
    before = (tmp_path / "results.jsonl").read_bytes()
    race(scenes=2).run(tmp_path, lambda estimate: told.append(estimate) or True)
    assert told[1].rows == 0
    assert (tmp_path / "results.jsonl").read_bytes() == before
    whole, random, _ = table(Run(tmp_path))
    assert whole["accuracy"] == sum(r.cells["all tokens"].score for r in results) / len(results)
    assert random["kept"] == random["accuracy"] / whole["accuracy"]
    assert random["difficult"] is not None or random["simple"] is not None


def test_a_cut_off_line_and_an_error_are_asked_again(race, tmp_path: Path) -> None:
    race().run(tmp_path, yes)
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    first, second, *rest = whole.splitlines(keepends=True)
    failed = Result(json.loads(first)["key"], 1, "x", "no memory").line()
    path.write_bytes(failed + b"".join(rest) + second[:20])
    assert len(list(Run(tmp_path).results())) == 1 + len(rest)
    assert Run(tmp_path).state() == "done"
    race().run(tmp_path, yes)
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert b"no memory" in (tmp_path / "stale.jsonl").read_bytes()


def test_what_is_another_race_or_at_work_is_refused(race, tmp_path: Path) -> None:
    race().run(tmp_path, yes)
    with pytest.raises(ValueError, match=r"holds another race: settings .*--out"):
        race(retention=0.5).run(tmp_path, yes)
    with Writer(tmp_path), pytest.raises(ValueError, match="another race is at work"):
        race().run(tmp_path, yes)


def test_a_changed_picture_is_asked_anew_and_faults_are_told(race, tmp_path: Path) -> None:
    picture, data = tmp_path / "a.png", tmp_path / "set.jsonl"
    Image.open(next((ROOT / "assets" / "examples").glob("*.png"))).save(picture)
    rows = [{"image": "a.png", "question": "what color is the star?", "answers": ["red"]}, {"image": "b.png"}]
    data.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    told: list[Estimate] = []
    for _ in range(2):
        race(str(data)).run(tmp_path / "run", lambda estimate: told.append(estimate) or True)
        Image.open(picture).rotate(180).save(picture)
    good, fault = sorted(Run(tmp_path / "run").results(), key=lambda result: result.row)
    assert (good.error, fault.row, told[0].faults[0].row) == ("", 2, 2)
    assert good.digest in (tmp_path / "run" / "results.jsonl").read_text("utf-8")
    assert len((tmp_path / "run" / "stale.jsonl").read_text("utf-8").splitlines()) == 2


def test_a_race_that_is_asked_to_stop_ends_after_its_row_and_goes_on_from_its_manifest(race, tmp_path: Path) -> None:
    told = Run(tmp_path)
    race().run(tmp_path, yes, lambda done, rows: told.ask_to_stop())
    assert (told.state(), len(list(told.results()))) == ("stopped", 1)
    manifest = told.manifest
    data = open_data(manifest.source, **manifest.reading)
    settings = [setting_of(each) for each in manifest.settings.values()]
    Race(race().model, str(SHIPPED), data, settings, max_new_tokens=4).run(tmp_path, yes)
    assert told.state() == "done"
    assert told.manifest.rows == len(list(told.results()))


def test_a_full_disk_ends_the_run_and_keeps_whole_lines(race, tmp_path: Path, monkeypatch) -> None:
    sync, calls = folders._sync, []

    def full(file) -> None:
        sync(file)
        if file.name.endswith("results.jsonl") and not calls.append(1) and len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        race().run(tmp_path, yes)
    monkeypatch.undo()
    assert len(list(Run(tmp_path).results())) == 2
    assert Run(tmp_path).state() == "stopped"
    race().run(tmp_path, yes)
    keys = [result.key for result in Run(tmp_path).results()]
    assert len(keys) == len(set(keys)) == Run(tmp_path).manifest.rows


@pytest.mark.slow
def test_kill_9_again_and_again_loses_no_row_and_doubles_none(race, tmp_path: Path) -> None:
    asked = "--data scenes --scenes 4 --methods random lower_resolution --retention 0.25 --max-new-tokens 4 --yes --out"
    command = [sys.executable, "-m", "pruning", "race", *asked.split(), str(tmp_path)]
    results = tmp_path / "results.jsonl"
    for more in (2, 9):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if results.is_file() and results.read_bytes().count(b"\n") >= more:
                break
            time.sleep(0.01)
        process.kill()  # -9
        process.wait()
        assert len(list(Run(tmp_path).results())) >= more
    race(scenes=4).run(tmp_path, yes)  # the library goes on where the program was
    keys = [result.key for result in Run(tmp_path).results()]
    assert len(keys) == len(set(keys)) == Run(tmp_path).manifest.rows
    race(scenes=4).run(tmp_path / "whole", yes)
    whole = (tmp_path / "whole" / "results.jsonl").read_bytes().splitlines()
    assert sorted(results.read_bytes().splitlines()) == sorted(whole)


def test_rows_of_clips_run_as_rows_of_pictures_do(tiny_vlm, tmp_path: Path) -> None:
    """Each answered as by hand; what cannot be is an error of its row, or of its setting there, with the reason."""
    folder, out = tmp_path / "data", tmp_path / "run"
    folder.mkdir()
    film(folder / "b.mp4", 20, fps=10, size=(112, 84))
    (folder / "c.mp4").write_bytes((folder / "b.mp4").read_bytes()[:600])
    Image.effect_noise((112, 84), 60).convert("RGB").save(folder / "a.png")
    for name in "abc":
        (folder / f"{name}.txt").write_text("what?\nred\n")
    methods: dict[str, Asked] = {"evs": make("evs"), **METHODS, "fewer_frames": make_encoding("fewer_frames")}
    settings = settings_of({name: methods[name] for name in ("evs", "lower_resolution", "fewer_frames")}, [0.5])

    def raced(**frames: int) -> dict[str, Result]:
        data = open_data(str(folder), **frames)
        Race(tiny_vlm, "tiny", data, settings, max_new_tokens=4).run(out, yes)
        return {result.id: result for result in Run(out).results()}

    still, clip, bad = (raced(max_frames=4)[name] for name in ("a.png", "b.mp4", "c.mp4"))
    own = open_clip(folder / "b.mp4", frames=4)
    full = tiny_vlm.encode([own])
    fewer = tiny_vlm.encode([own], asked=make_encoding("fewer_frames").encoding(full.tokens.n, full.tokens.n // 2))
    kept = {
        "all tokens": None,
        "evs@0.5": make("evs").select(full.tokens, full.tokens.n // 2),
        "fewer_frames@0.5": fewer,
    }
    for name, each in kept.items():
        assert clip.cells[name].said == tiny_vlm.answer(full, "what?", each, max_new_tokens=4).text
        assert clip.cells[name].came_to == (1.0 if each is None else 0.5)
    assert "lower resolution is for pictures alone" in clip.cells["lower_resolution@0.5"].error
    assert "fewer frames is for clips alone" in still.cells["fewer_frames@0.5"].error
    assert "cut off: its index is missing" in bad.error
    again = raced(max_frames=2)
    assert again["a.png"].key == still.key, "a picture has no frames to take"
    assert again["b.mp4"].key != clip.key
    assert again["b.mp4"].n == clip.n // 2
    assert Run(out).manifest.reading["max_frames"] == 2
