"""The benchmark of a trained pruner on a few scenes: all rankings answer the same questions, and it says so."""

import json
from pathlib import Path

import pytest

from benchmarks.pruners import RANKED, main, teacher
from pruning.models import SHIPPED, load
from pruning.models.trained import INSIDE


def test_all_rankings_answer_the_same_questions(tmp_path: Path, capsys) -> None:
    assert main(["--scenes", "2", "--retentions", "1", "0.1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    told = json.loads((tmp_path / "pruners.json").read_text())
    vlm = load(SHIPPED, device="cpu")
    names = [name for name, signal in RANKED.items() if not signal or signal in vlm.signals]
    assert {"dtop", "confidence", "qtsplus", "untrained", "mmtok", "scorer", "chance"} <= set(names)
    assert {told["accuracy"][f"{name} 1"] for name in names} == {told["accuracy"]["all"]}
    for name, times in told["times"].items():
        assert told["accuracy"][f"{name} 0.1"] >= told["accuracy"]["chance 0.1"]
        assert times["share_of_prefill"] == pytest.approx(times["module_ms"] / times["prefill_ms"])
    assert told["times"].keys() == vlm.pruners.keys() - INSIDE
    assert told["accuracy"].keys() == {"all", *(f"{name} {at}" for name in names for at in ("1", "0.1", "own"))}
    assert 0.05 <= told["own"]["least"] <= told["own"]["mean"] <= told["own"]["most"] <= 0.5
    assert told["accuracy"]["qtsplus own"] > told["accuracy"]["chance own"]
    assert f"{told['own']['mean']:.1%} in the mean" in out
    assert f"of {told['questions']} questions" in out
    assert out.count("\n| ") == len(names)


def test_the_teacher_is_what_the_question_gives_each_token(noise) -> None:
    vlm = load(SHIPPED, attention="eager", device="cpu")
    encoded = vlm.encode([noise(112, 112)])
    first, second = (teacher(vlm, encoded, question, 2) for question in ("what color is the star?", "is there a ring?"))
    assert first.shape == (encoded.tokens.n,)
    assert float(first.mean()) == pytest.approx(1.0, abs=1e-4)
    assert not first.allclose(second)


def test_a_model_without_a_pruner_is_refused(tiny_folder: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--model", str(tiny_folder)])
    assert "has no trained pruner: name one with --pruner" in capsys.readouterr().err
