"""The benchmark of patches on a few questions: it counts what it says."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.why import Row, asked_about, main, summary
from pruning.scenes.render import Scene, SceneObject


def test_the_objects_that_a_question_names() -> None:
    blank = np.zeros((4, 4), np.uint8)
    things = [("star", "red"), ("star", "blue"), ("cross", "red")]
    objects = tuple(SceneObject(shape, color, None, 0, 0, 40) for shape, color in things)
    scene = Scene(0, np.zeros((4, 4, 3), np.uint8), objects, blank, blank)
    expected = {
        "what color is the cross?": {2},
        "what shape is the blue object?": {1},
        "how many stars are there?": {0, 1},
        "how many red objects are there?": {0, 2},
        "how many objects are there?": {0, 1, 2},
        "is the blue star left or right of the cross?": {1, 2},
        "is there a green ring?": set(),
    }
    assert {question: asked_about(scene, question) for question in expected} == expected


def test_shares_are_over_all_patches_and_over_questions() -> None:
    rows = [
        Row("a", "reading", 20, 1, {"found": 1.0, "chance": 0.1}, True, True, 30, 0.1),
        Row("b", "reading", 20, 3, {"found": 0.0, "chance": 0.3}, True, True, 50, 0.3),
        Row("c", "spatial", 20, 0, {"found": 0.0, "chance": 0.0}, False, False, 90, 0.5),
    ]
    found = summary(rows)
    assert found["share_of_patches"] == {"found": 0.25, "chance": 0.1}
    assert found["mean_of_questions"] == {"found": 0.5, "chance": pytest.approx(0.1)}
    assert (found["questions"], found["reached"], found["patches"], found["median_measured"]) == (3, 2, 4, 50)


@pytest.mark.parametrize("way", ["return", "need"])
def test_a_few_questions(way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--questions", "3", "--way", way, "--out", str(tmp_path)])
    found = json.loads((tmp_path / "why.json").read_text(encoding="utf-8"))
    assert found["questions"] == len(found["rows"]) == 3
    for row in found["rows"]:
        assert 0 <= row["on"]["found"] <= row["named"] <= row["candidates"]
    assert "| found |" in capsys.readouterr().out
