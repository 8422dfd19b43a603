"""The benchmark of learned thresholds on one scene: budgets are what they came to, and it says so."""

import json
from pathlib import Path

import pytest

from benchmarks.thresholds import RULES, main, measure
from pruning.models import SHIPPED, load
from pruning.models.trained import load_pruner, save
from tests.helpers.modules import modules


def test_all_rules_answer_the_same_questions(tmp_path: Path, capsys) -> None:
    vlm = load(SHIPPED, device="cpu")
    folder = tmp_path / "pruner"
    save(modules(vlm)["atp_llava"], folder, vlm.model, {})
    given = ["--pruner", str(folder), "--scenes", "1", "--retentions", "1", "--out", str(tmp_path)]
    assert main(given) == 0
    out, told = capsys.readouterr().out, json.loads((tmp_path / "thresholds.json").read_text())
    assert {told["accuracy"][f"{name} 1"] for name in RULES} == {told["accuracy"]["all"]}
    assert told["accuracy"].keys() == {"all", *(f"{name} {at}" for name in RULES for at in ("1", "own"))}
    assert 0.25 < told["own"]["least"] <= told["own"]["mean"] <= told["own"]["most"] <= 1
    times = told["times"]
    spent = (times["thresholds_ms"] - times["chance_ms"]) / times["prefill_ms"]
    assert times["share_of_prefill"] == pytest.approx(spent)
    assert f"of {told['questions']} questions" in out
    assert load_pruner(folder, vlm.model).keys() == {"atp_llava"}


def test_a_model_without_thresholds_is_refused(tiny_vlm) -> None:
    with pytest.raises(ValueError, match="has no trained thresholds of atp_llava: name a folder with --pruner"):
        measure(tiny_vlm, 1, [0.5])
