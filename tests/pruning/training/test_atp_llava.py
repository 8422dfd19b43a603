"""ATP-LLaVA's training: tokens that fade are as if they left; sharp, it is the method; a run that stops and goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pruning.models import VLM, load
from pruning.models.trained import load_pruner
from pruning.plan import Cut, Plan
from pruning.seen import Choice, Seen
from pruning.staged import make_staged
from pruning.training import fit
from pruning.training.__main__ import main
from pruning.training.atp_llava import ATPLLaVATrainee, faded, plan_within
from pruning.training.pruners import PrunerPlan
from tests.helpers.modules import equipped
from tests.helpers.trainings import Same, interrupted

QUESTION, ANSWER = "what color is the star?", "red"


def plan(steps: int) -> PrunerPlan:
    return PrunerPlan("m", "same", steps, batch=1, rate=0.2, budget=0.25, method="atp_llava")


def sequences(vlm: VLM, noise):
    encoded = vlm.encode([noise(112, 84)])
    return encoded, *fit.sequence(vlm, encoded, QUESTION, ANSWER)


@pytest.mark.parametrize("family", ["qwen2.5-vl", "llava", "internvl"])
def test_what_has_faded_is_as_if_it_had_left(family: str, tiny, noise) -> None:
    """Every second token after one layer, and of these every second after the next, where there is one."""
    vlm = load(tiny(family).model_id, attention="eager", device="cpu")
    encoded, ids, positions, answer = sequences(vlm, noise)
    n = encoded.tokens.n

    class Every(type(make_staged("random_inner"))):
        needs = frozenset()

        def pick(self, seen: Seen, k: int) -> Choice:
            return Choice(torch.arange(0, len(seen.tokens), 2))

    def rule(cut: int, attention: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return (torch.arange(n) % 2 ** (cut + 1) == 0).float()

    afters = [after for after in (1, 2) if after < vlm.layers]
    with torch.no_grad():
        logits, left = faded(vlm, encoded, ids, positions, len(answer), afters, rule)
    counts = [-(-n // 2), -(-n // 4)]
    cuts = Plan(tuple(Cut(after, Every(), count) for after, count in zip(afters, counts, strict=False)))
    wanted = vlm.logprobs(encoded, QUESTION, answer.tolist(), [cuts])[0]
    torch.testing.assert_close(logits.log_softmax(-1), wanted, atol=1e-4, rtol=1e-4)
    assert [int(p.sum()) for p in left] == counts[: len(afters)]


def test_where_thresholds_are_sharp_it_is_the_method_by_its_own_budget(eager: VLM, noise) -> None:
    vlm = equipped(eager)
    encoded, ids, positions, answer = sequences(vlm, noise)
    trainee = ATPLLaVATrainee(vlm, plan(1))
    prompt = ids.shape[-1] - len(answer) + 1
    rule = trainee.rule(vlm, vlm.pruners["atp_llava"], encoded, ids, prompt, sharpness=1e7)
    with torch.no_grad():
        logits, (left,) = faded(vlm, encoded, ids, positions, len(answer), trainee.afters, rule)
    method = make_staged("atp_llava", budget="own")
    whole = Plan(tuple(Cut(after, method, 1.0) for after in trainee.afters))
    trace = vlm.trace(encoded, QUESTION, whole)
    assert (left > 0.5).nonzero()[:, 0].tolist() == trace.cuts[0].order.sort().values.tolist()
    assert 0 < len(trace.cuts[0].order) < encoded.tokens.n
    wanted = vlm.logprobs(encoded, QUESTION, answer.tolist(), [whole])[0]
    torch.testing.assert_close(logits.log_softmax(-1), wanted, atol=1e-3, rtol=1e-3)


def test_what_it_minimises_falls_and_no_hook_stays(eager: VLM, noise, tmp_path: Path) -> None:
    before, steps = hooks(eager), plan(24)
    fit.train(eager, Same(noise), steps, tmp_path, ATPLLaVATrainee(eager, steps), every=4)
    lines = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    totals = [line["loss"] + 0.05 * line["kept"] + 0.2 * line["off_target"] for line in lines]
    assert totals[-1] < totals[0] - 0.02
    assert hooks(eager) == before


def test_the_losses_are_those_of_the_formula(eager: VLM, noise) -> None:
    """Of one cut after one layer: what is left by hand from the map, and how far that is from a quarter."""
    trainee, record = ATPLLaVATrainee(eager, plan(1)), Same(noise).at(0)
    module = trainee.new(eager, torch.Generator().manual_seed(1))
    encoded, ids, positions, answer = sequences(eager, noise)
    visual = (ids[0] == eager.config.image_token_id).nonzero()[:, 0]
    with torch.no_grad():
        output = fit.forced(eager, ids, positions, encoded.rows(None), 1, output_attentions=True)
        found = trainee.losses(eager, module, record, 0)
    rows = output.attentions[0][0].double().mean(0)
    prompt = ids.shape[-1] - len(answer) + 1
    text = rows[int(visual[-1]) + 1 : prompt][:, visual].mean(0)
    both = (rows[visual][:, visual].mean(0) + text) / 2
    scaled = (both - both.min()) / (both.max() - both.min())
    grid = encoded.tokens.grids[0]
    sampled = torch.tensor([0.8125 * (i // grid.gw % 4 == 0 and i % grid.gw % 4 == 0) for i in range(len(visual))])
    share = float((40 * torch.maximum(scaled - 0.1, sampled - 0.5)).sigmoid().mean())
    assert found["kept"] == (0.05, pytest.approx(share, rel=1e-3))
    assert found["off_target"] == (0.2, pytest.approx(abs(share - 0.25), rel=1e-2))


def hooks(vlm: VLM) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in vlm.model.modules())


def test_a_stopped_run_ends_like_one_that_was_not(eager: VLM, noise, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    records, held_out = Same(noise), [Same(noise).at(0)]
    arguments = (eager, records, plan(4))
    fit.train(*arguments, whole, ATPLLaVATrainee(eager, plan(4)), every=2, held_out=held_out, budgets=[0.5])
    with interrupted(ATPLLaVATrainee, after=3):
        fit.train(*arguments, stopped, ATPLLaVATrainee(eager, plan(4)), every=2, held_out=held_out, budgets=[0.5])
    fit.train(*arguments, stopped, ATPLLaVATrainee(eager, plan(4)), every=2, resume=True, held_out=held_out,
              budgets=[0.5])  # fmt: skip
    for name in ("atp_llava.safetensors", "curve.jsonl"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    module = load_pruner(stopped, eager.model)["atp_llava"]
    assert not torch.equal(module.redundant[0].weight, torch.zeros(1, 16)), "it has learned"


def test_a_held_out_question_is_answered_within_the_budget(eager: VLM, noise, monkeypatch) -> None:
    vlm, record, asked = equipped(eager), Same(noise).at(0), []
    trainee, plain = ATPLLaVATrainee(vlm, plan(1)), VLM.answer
    monkeypatch.setattr(VLM, "answer", lambda *args: asked.append(args[3]) or plain(*args))
    score = trainee.score(vlm, vlm.pruners["atp_llava"], record, 0.5)
    n = vlm.encode([record.picture()]).tokens.n
    assert str(asked[0]) == str(plan_within(n, 2, 0.5)) == f"1:atp_llava:{n // 2}"
    assert score == float(vlm.answer(vlm.encode([record.picture()]), QUESTION, asked[0]).text.strip() == ANSWER)


def test_the_command_trains_it(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, common = tmp_path / "out", ["pruner", "--method", "atp_llava", "--model", str(tiny_folder), "--batch", "1"]
    assert main([*common, "--steps", "2", "--held-out", "1", "--out", str(out)]) == 0
    assert load(tiny_folder, pruner=str(out)).signals >= {"atp_llava"}
    told = json.loads((out / "atp_llava.json").read_text())
    assert (told["cuts"], told["trained"]["after"], told["trained"]["method"]) == (1, [1], "atp_llava")
    assert main([*common, "--layer", "1", "--out", str(tmp_path / "other")]) == 2
    assert "--layer belongs to covipal" in capsys.readouterr().err
