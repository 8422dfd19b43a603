"""QTSplus' training: the threshold by hand, coins that are thrown alike again, a run that learns, stops and is used."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pruning.models import VLM, load
from pruning.training import fit
from pruning.training.__main__ import main
from pruning.training.pruners import PrunerPlan
from pruning.training.qtsplus import QTSplusTrainee, above, new_selector, tossed
from tests.helpers.trainings import Same, interrupted


def plan(steps: int, **changes: object) -> PrunerPlan:
    return PrunerPlan("m", "same", steps, **({"batch": 1, "rate": 1e-2, "method": "qtsplus"} | changes))  # type: ignore[arg-type]


def test_the_threshold_is_where_the_probabilities_add_up() -> None:
    """r = .9, .5, .4, .1 and half of the tokens at τ = .1: t = .4536."""
    r = torch.tensor([0.9, 0.5, 0.4, 0.1])
    found = above(r / 0.1, 2.0)
    assert ((r / 0.1 - found) * 0.1).tolist() == pytest.approx([0.4536] * 4, abs=1e-4)
    for total in (0.2, 1.0, 3.9):
        assert float(above(r / 0.1, total).sigmoid().sum()) == pytest.approx(total, abs=1e-4)


def test_its_gradient_is_that_of_differences() -> None:
    scores, total = torch.tensor([2.0, 0.5, -1.0, 0.3], requires_grad=True), torch.tensor(1.5, requires_grad=True)
    weights = torch.tensor([1.0, -2.0, 3.0, 0.5])

    def value(scores: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        return (weights * above(scores, total).sigmoid()).sum()

    value(scores, total).backward()
    with torch.no_grad():
        for i, step in enumerate(1e-2 * torch.eye(4)):
            slope = float(value(scores + step, total) - value(scores - step, total)) / 2e-2
            assert float(scores.grad[i]) == pytest.approx(slope, abs=2e-3)
        slope = float(value(scores, total + 1e-2) - value(scores, total - 1e-2)) / 2e-2
        assert float(total.grad) == pytest.approx(slope, abs=2e-3)


def test_a_coin_falls_as_often_as_its_odds_say() -> None:
    coins = torch.Generator().manual_seed(4)
    for odds in (-2.0, 0.0, 1.0):
        share = float((tossed(torch.full((20_000,), odds), coins) > 0.5).float().mean())
        assert share == pytest.approx(1 / (1 + math.exp(-odds)), abs=0.02)


def test_it_begins_as_the_first_layer_of_the_language_model(tiny_vlm: VLM) -> None:
    layer, found = tiny_vlm.model.get_decoder().layers[0], new_selector(tiny_vlm, 0)
    assert torch.equal(found.query.weight, layer.self_attn.q_proj.weight.float())
    assert torch.equal(found.key.bias, layer.self_attn.k_proj.bias.float())
    assert torch.equal(found.norm.weight, layer.input_layernorm.weight.float())
    assert torch.equal(new_selector(tiny_vlm, 0).budget[0].weight, found.budget[0].weight)
    assert not torch.equal(new_selector(tiny_vlm, 1).budget[0].weight, found.budget[0].weight)


@pytest.mark.parametrize("family", ["llava", "internvl", "smolvlm", "qwen3-vl"])
def test_it_fits_every_family(family: str, tiny, noise) -> None:
    vlm = load(tiny(family).model_id, attention="eager", device="cpu")
    trainee, record = QTSplusTrainee(vlm, plan(1)), Same(noise).at(0)
    module = trainee.new(vlm, torch.Generator().manual_seed(1))
    found = trainee.losses(vlm, module, record, 0)
    sum(weight * loss for weight, loss in found.values()).backward()
    assert float(module.query.weight.grad.abs().sum()) > 0
    assert float(module.budget[2].bias.grad.abs().sum()) > 0
    vlm.model.zero_grad(set_to_none=True)


def test_the_losses_weigh_the_share(eager: VLM, noise) -> None:
    """λ_t·(ρ/b)², λ_m·ρ/b and λ_s·(ρ - mean)²; the mean follows; the same record at the same step, the same coins."""
    trainee, record = QTSplusTrainee(eager, plan(1, budget=0.25)), Same(noise).at(0)
    module = trainee.new(eager, torch.Generator().manual_seed(1))
    encoded = eager.encode([record.picture()])
    words = eager.tokens(encoded, record.question, frozenset({"question"})).signal("question")
    with torch.no_grad():
        share = float(module(encoded.tokens.features, words)[0, 1])
        mean = float(module.mean)
        first, again, other = (trainee.losses(eager, module, record, step) for step in (0, 0, 1))
    assert first["time"] == (0.1, pytest.approx((share / 0.25) ** 2, rel=1e-4))
    assert first["memory"] == (0.17, pytest.approx(share / 0.25, rel=1e-4))
    assert first["unsteady"] == (0.05, pytest.approx((share - mean) ** 2, rel=1e-3, abs=1e-7))
    assert float(module.mean) == pytest.approx(share + (mean - share) * 0.98**3, rel=1e-4)
    assert float(first["loss"][1]) == float(again["loss"][1]) != float(other["loss"][1])


def test_what_it_minimises_falls(eager: VLM, noise, tmp_path: Path) -> None:
    wanted = plan(40, budget=0.05)
    fit.train(eager, Same(noise), wanted, tmp_path, QTSplusTrainee(eager, wanted), every=10)
    lines = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    totals = [line["loss"] + 0.1 * line["time"] + 0.17 * line["memory"] + 0.05 * line["unsteady"] for line in lines]
    assert totals[-1] < totals[0] - 0.1
    assert lines[-1]["memory"] < 0.8 * lines[0]["memory"], "it takes fewer tokens"


def test_a_stopped_run_ends_like_one_that_was_not(eager: VLM, noise, tmp_path: Path) -> None:
    records, whole, stopped = Same(noise), tmp_path / "whole", tmp_path / "stopped"
    held_out, four = [records.at(0)], plan(4, batch=2)
    fit.train(eager, records, four, whole, QTSplusTrainee(eager, four), every=2, held_out=held_out)
    with interrupted(QTSplusTrainee, after=5):
        fit.train(eager, records, four, stopped, QTSplusTrainee(eager, four), every=2, held_out=held_out)
    fit.train(eager, records, four, stopped, QTSplusTrainee(eager, four), every=2, held_out=held_out, resume=True)
    for name in ("qtsplus.safetensors", "curve.jsonl"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    weights = load_file(stopped / "qtsplus.safetensors")
    assert not torch.equal(weights["query.weight"], new_selector(eager, 0).query.weight), "it has learned"


def test_the_command_trains_it(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, common = tmp_path / "out", ["pruner", "--method", "qtsplus", "--model", str(tiny_folder), "--batch", "1"]
    assert main([*common, "--steps", "2", "--held-out", "1", "--out", str(out)]) == 0
    assert load(tiny_folder, pruner=str(out)).signals >= {"qtsplus"}
    assert json.loads((out / "qtsplus.json").read_text())["trained"]["method"] == "qtsplus"
    assert main([*common, "--guided", "0.5", "--out", str(tmp_path / "other")]) == 2
    assert "--guided belongs to covipal, and qtsplus learns from no attention" in capsys.readouterr().err
