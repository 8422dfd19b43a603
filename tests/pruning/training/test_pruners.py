"""Training of pruners: labels and masks by hand, runs that learn, stop, go on and are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pruning.models import VLM, load
from pruning.training import fit, pruners
from pruning.training.__main__ import main
from pruning.training.pruners import CoViPALTrainee, PrunerPlan, guidance, soft_mask, visual_places
from pruning.training.records import SceneRecords
from pruning.training.runs import Run
from tests.helpers.trainings import Same, interrupted


def plan(vlm: VLM, steps: int, **changes: object) -> PrunerPlan:
    return PrunerPlan(str(vlm.model_id), "same", steps, **({"batch": 1, "rate": 1e-2} | changes))  # type: ignore[arg-type]


def test_the_label_is_what_stands_behind_the_picture_gives_each_token() -> None:
    attention = torch.rand(2, 6, 6).tril()
    places = torch.tensor([1, 2, 3])
    sums = [sum(float(attention[h, q, j]) for h in range(2) for q in (4, 5)) for j in (1, 2, 3)]
    mean = sum(sums) / 3
    assert guidance(attention, places).tolist() == pytest.approx([value / mean for value in sums])


@pytest.mark.parametrize("family", ["qwen2.5-vl", "llava", "internvl", "smolvlm"])
def test_a_token_of_probability_zero_is_as_if_removed(family: str, tiny, noise) -> None:
    vlm = load(tiny(family).model_id, attention="eager", device="cpu")
    record = Same(noise).at(0)
    encoded = vlm.encode([record.picture()])
    ids, positions, answer = fit.sequence(vlm, encoded, record.question, record.answer)
    kept = torch.arange(0, encoded.tokens.n, 3)
    p = torch.zeros(encoded.tokens.n).index_fill(0, kept, 1.0)
    mask = soft_mask(p, visual_places(vlm, encoded, ids), ids.shape[-1])
    with torch.no_grad():
        logits = fit.forced(vlm, ids, positions, encoded.rows(None), len(answer), mask).logits[0].float()
    wanted = vlm.logprobs(encoded, record.question, answer.tolist(), [kept])[0]
    found = logits.log_softmax(-1)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_both_stages_learn_what_they_are_to_learn(eager: VLM, noise, tmp_path: Path) -> None:
    records = Same(noise)
    fit.train(eager, records, plan(eager, 40, guided=0.5), tmp_path, trainee(eager, 40, guided=0.5), every=10)
    lines = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert lines[1]["guidance"] < 0.5 * lines[0]["guidance"]
    assert lines[3]["loss"] < lines[2]["loss"]
    assert "guidance" not in lines[3]
    assert "loss" not in lines[0]


def trainee(vlm: VLM, steps: int, **changes: object) -> CoViPALTrainee:
    return CoViPALTrainee(vlm, plan(vlm, steps, **changes))


def test_a_stopped_run_ends_like_one_that_was_not(eager: VLM, noise, tmp_path: Path) -> None:
    records, whole, stopped = Same(noise), tmp_path / "whole", tmp_path / "stopped"
    held_out = [records.at(0)]
    fit.train(eager, records, plan(eager, 6), whole, trainee(eager, 6), every=2, held_out=held_out)
    with interrupted(CoViPALTrainee, after=5):
        fit.train(eager, records, plan(eager, 6), stopped, trainee(eager, 6), every=2, held_out=held_out)
    fit.train(eager, records, plan(eager, 6), stopped, trainee(eager, 6), every=2, held_out=held_out, resume=True)
    one, other = (load_file(folder / "covipal.safetensors") for folder in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)
    curves = [(folder / "curve.jsonl").read_text() for folder in (whole, stopped)]
    assert curves[0] == curves[1]
    assert Run(stopped).state(6, 6) == "done"
    assert Run(stopped).seconds > 0
    assert {json.loads(line)["held_out"] for line in curves[0].splitlines()} <= {0.0, 1.0}


def test_a_loss_that_is_no_number_stops_and_the_last_module_stays(
    eager: VLM, noise, tmp_path: Path, monkeypatch
) -> None:
    plain = CoViPALTrainee.losses

    def broken(self, vlm, module, record, step):
        found = plain(self, vlm, module, record, step)
        return {name: (weight, loss * (torch.nan if step == 3 else 1)) for name, (weight, loss) in found.items()}

    monkeypatch.setattr(CoViPALTrainee, "losses", broken)
    with pytest.raises(ValueError, match=r"a record: the loss is NaN or infinite .* lower --rate"):
        fit.train(eager, Same(noise), plan(eager, 6), tmp_path, trainee(eager, 6), every=2)
    assert json.loads((tmp_path / "curve.jsonl").read_text())["step"] == 2
    assert load(eager.model_id, pruner=str(tmp_path)).pruners


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "fastv"}, "'fastv' has no module to train: it must be one of covipal, dtop, atp_llava, qtsplus"),
        ({"guided": 1.5}, "guided 1.5"),
        ({"layer": 99}, "layer 99: .* has layers 0 to"),
    ],
)
def test_plans_that_cannot_be(eager: VLM, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trainee(eager, 2, **changes)


def test_the_command_trains_and_the_module_is_used(tiny_folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    arguments = ["pruner", "--model", str(tiny_folder), "--steps", "2", "--batch", "1", "--held-out", "1"]
    assert main([*arguments, "--out", str(out), "--held-out-at", "0.5", "1"]) == 0
    (point,) = Run(out).curve().points
    assert point.held_out.keys() == {"", "0.5", "1"}
    with pytest.raises(SystemExit):
        main([*arguments, "--held-out-at", "1.5"])
    assert "'1.5' is no share of the tokens: a number above 0 up to 1" in capsys.readouterr().err
    assert main([*arguments, "--held-out", "0", "--held-out-at", "0.1"]) == 2
    assert "--held-out-at needs held-out questions" in capsys.readouterr().err
    assert load(tiny_folder, pruner=str(out)).signals >= {"covipal"}
    told = json.loads((out / "covipal.json").read_text())["trained"]
    assert (told["steps"], told["data"], told["method"], told["layer"]) == (2, "scenes", "covipal", 1)
    assert main([*arguments, "--out", str(out)]) == 2
    assert "go on with it by --resume" in capsys.readouterr().err


def test_held_out_scenes_are_others() -> None:
    asked = SceneRecords(0).at(0).picture(), SceneRecords(5).at(0).picture()
    assert asked[0].tobytes() != asked[1].tobytes()
    assert pruners.METHODS == ("covipal", "dtop", "atp_llava", "qtsplus")
