"""Commands about clips: what they print and draw, and where they say that they cannot."""

import json
from pathlib import Path

import cv2
import pytest
from PIL import Image

from pruning.cli.main import main
from pruning.drawing.paint import KEPT
from tests.checkpoints import FAMILIES
from tests.helpers.clips import animation, film

QUESTION = "What color is the star?"


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return str(film(tmp_path / "clip.mp4", frames=30, fps=10, size=(168, 112)))


def test_a_clip_is_answered_and_its_frames_are_drawn_on_a_sheet(run, clip: str, tmp_path: Path) -> None:
    sheet = tmp_path / "out.png"
    code, out, err = run("answer", clip, QUESTION, "--max-new-tokens", "2", "--overlay", str(sheet), "--json")
    result = json.loads(out)
    assert code == 0
    assert result["n"] == 3 * 24
    assert result["budget"] == 18
    assert "6 of 30 frames, 2 a second." in result["notes"]
    assert "6 of 30 frames, 2 a second." in err
    with Image.open(sheet) as drawn:
        colours = dict((colour, count) for count, colour in drawn.convert("RGB").getcolors(1 << 24))
    assert colours[KEPT] > 50
    assert colours[246, 247, 249] > 1000  # between the frames


def test_frames_are_taken_as_asked_and_drawn_as_a_film(run, clip: str, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    code, out, _ = run("answer", clip, QUESTION, "--max-new-tokens", "2", "--fps", "5", "--max-frames", "4",
                       "--overlay", str(path), "--json")  # fmt: skip
    assert code == 0
    assert "4 of 30 frames, 1.3 a second." in json.loads(out)["notes"]
    film = cv2.VideoCapture(str(path))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(1.3, abs=0.05)
    frames = []
    while (read := film.read())[0]:
        frames.append(read[1])
    assert len(frames) == 4
    assert frames[0].shape[1] == 1024


def test_the_curves_of_a_clip_leave_lower_resolution_out(run, clip: str) -> None:
    given = ("--methods", "uniform", "idpruner", "lower_resolution", "fewer_frames", "--retention", "0.25", "0.5",
             "--max-frames", "4")  # fmt: skip
    code, out, err = run("sweep", clip, QUESTION, *given)
    assert code == 0
    assert "lower_resolution at 0.25 and 0.5 is left out: lower resolution is for pictures alone: take fewer" in err
    assert "4 of 30 frames" in err
    assert "fewer_frames at 0.25 is left out: " in err
    assert "24 visual tokens of one step of the clip, and 12 are asked for" in err
    named = [line.partition(",")[0] for line in out.splitlines()]
    assert named.count("fewer_frames") == 1  # at 0.5; nowhere on the plane
    assert "uniform" in named


def test_fewer_frames_are_answered_and_told(run, clip: str, tmp_path: Path) -> None:
    given = ("--method", "fewer_frames", "--retention", "0.7", "--max-new-tokens", "2", "--json")
    code, out, _ = run("answer", clip, QUESTION, *given)
    assert code == 0
    made = json.loads(out)["encoding"]
    assert (made["asked"], made["reached"]) == (round(72 * 0.7), 48)
    assert [len(frames) for frames in made["taken"]] == [4]  # of 6, two to a step of time
    assert made["note"] == "48 of 50: the nearest that whole frames allow"
    Image.effect_noise((168, 112), 60).convert("RGB").save(tmp_path / "a.png")
    code, _, err = run("answer", str(tmp_path / "a.png"), QUESTION, *given)
    assert code == 2
    assert "clip" in err


def test_the_patches_of_a_clip_that_an_answer_hangs_on_have_their_frame(run, clip: str) -> None:
    code, out, _ = run("why", clip, QUESTION, "--max-frames", "2", "--most", "20", "--max-new-tokens", "1", "--json")
    assert code == 0
    found = json.loads(out)
    assert len(found["frames"]) == len(found["patches"]) == len(found["rects"])


@pytest.mark.parametrize("method", ["evs", "flashvid_inner"])
def test_methods_and_budgets_for_clips_can_be_named(run, clip: str, method: str) -> None:
    code, out, _ = run("answer", clip, QUESTION, "--method", method, "--max-new-tokens", "1", "--json")
    assert code == 0
    assert json.loads(out)["n"] == 72
    if method == "evs":
        given = ("--method", "divprune", "--per", "novelty", "--max-new-tokens", "1", "--json")
        kept = json.loads(run("answer", clip, QUESTION, *given)[1])["indices"]
        in_step = [sum(token // 24 == step for token in kept) for step in range(3)]
        assert sum(in_step) == 18
        assert in_step[0] > in_step[1]
        assert min(in_step) > 0


def test_whether_it_pays_is_measured_of_a_clip(run, clip: str) -> None:
    given = ("--max-frames", "2", "--concurrency", "1", "--rounds", "1", "--new-tokens", "2", "--json")
    code, out, _ = run("pays", clip, QUESTION, *given)
    assert code == 0
    assert any(why.startswith("Lower resolution is left out") for why in json.loads(out)["left_out"])


def test_a_certificate_of_a_clip_takes_the_same_frames_again(run, clip: str, tmp_path: Path) -> None:
    file = tmp_path / "certificate.json"
    sampling = ("--fps", "5", "--max-frames", "4")
    assert run("certificate", clip, QUESTION, *sampling, "--per", "frame", "--out", str(file))[0] == 0
    told = json.loads(file.read_text(encoding="utf-8"))
    assert (told["pictures"][0]["fps"], told["pictures"][0]["frames"], told["seen"]["n"]) == (5.0, 4, 2 * 24)
    code, out, _ = run("verify", str(file))
    assert (code, out.splitlines()[-1]) == (0, "it comes to the same here")
    film(tmp_path / "clip.mp4", frames=30, fps=10, size=(112, 168))
    code, out, _ = run("verify", str(file))
    assert code == 3
    assert "the first difference: pictures: clip.mp4: 168×112 there, 112×168 here" in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["answer", "CLIP", QUESTION, "--fps", "0"], "the rate must be a number of frames a second"),
        (["answer", "CLIP", QUESTION, "--max-frames", "0"], "the most frames must be a whole number of at least 1"),
        (["answer", "CLIP", QUESTION, "--method", "lower_resolution"], "lower resolution is for pictures alone"),
        (["answer", "STILL", QUESTION, "--overlay", "OUT"], "a picture does not move: end it in .png"),
        (["answer", "TEXT", QUESTION], "not an image"),
        (["answer", "LIST", QUESTION], "not an image"),
    ],
)
def test_what_cannot_be_is_told(run, clip: str, tmp_path: Path, arguments: list[str], reason: str) -> None:
    Image.new("RGB", (56, 56)).save(tmp_path / "still.png")
    (tmp_path / "text.mp4").write_text("What a day\n" * 9)
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip}\n")
    names = {"CLIP": clip, "STILL": str(tmp_path / "still.png"), "OUT": str(tmp_path / "out.mp4"),
             "TEXT": str(tmp_path / "text.mp4"), "LIST": str(tmp_path / "list.mp4")}  # fmt: skip
    code, _, err = run(*(names.get(word, word) for word in arguments))
    assert code == 2
    assert reason in err


def test_a_model_without_clips_refuses_films_and_sees_the_first_frame_of_animations(clip, tmp_path, capsys) -> None:
    folder = str(FAMILIES["llava"](tmp_path / "llava"))
    assert main(["answer", clip, QUESTION, "--model", folder]) == 2
    assert "llava: clips are not read for models of type llava: ask about a picture" in capsys.readouterr().err
    moving = str(animation(tmp_path / "a.gif", [100, 100], (60, 60)))
    assert main(["answer", moving, QUESTION, "--model", folder, "--max-new-tokens", "1", "--method", "uniform"]) == 0
    assert "First frame of several." in capsys.readouterr().err
