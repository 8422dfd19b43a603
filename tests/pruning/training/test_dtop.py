"""DToP's training: what a token shows, counted by hand; a run that learns it, and is used; what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pruning.budget import keep_count
from pruning.method import make
from pruning.models import VLM, load
from pruning.models.trained import load_pruner
from pruning.scenes import render
from pruning.training import fit
from pruning.training.__main__ import main
from pruning.training.dtop import DToPTrainee
from pruning.training.labels import AT, CLASSES, IGNORED, pixel_classes, scene_labels, token_classes
from pruning.training.pruners import PrunerPlan
from pruning.training.records import Record, SceneRecords
from pruning.training.runs import Run
from pruning.training.shipped import CELL
from tests.helpers.trainings import interrupted


@pytest.mark.parametrize(
    ("pixels", "shows"),
    [
        ({}, "ground"),
        ({"star": 2}, "ground"),
        ({"star": 3}, None),
        ({"star": 13}, "star"),
        ({"star": 20, "ring": 30}, "ring"),
        ({"star": 70, "7": 25}, "7"),
        ({"star": 70, "7": 24}, "star"),
    ],
)
def test_a_token_shows_what_covers_enough_of_it(pixels: dict[str, int], shows: str | None) -> None:
    line = [CLASSES.index(name) for name, count in pixels.items() for _ in range(count)]
    shown = np.array(line + [0] * (100 - len(line))).reshape(10, 10)
    found = token_classes(shown, np.array([[0, 0, 10, 10], [10, 10, 10, 10]], np.float32))
    assert found.tolist() == [IGNORED if shows is None else CLASSES.index(shows), IGNORED]


def test_of_scenes_they_agree_with_the_labels_of_the_vision_stage() -> None:
    """Where both say something: there a digit outweighs the shape under it, and so it does here."""
    scene = render(5)
    height, width = scene.image.shape[:2]
    rows, columns = np.divmod(np.arange(height * width // CELL**2), width // CELL)
    rects = np.stack([columns, rows, columns + 1, rows + 1], 1).astype(np.float32) * CELL
    found, told = token_classes(pixel_classes(scene), rects), scene_labels(scene)
    shapes = (found > 0) & (found <= 7) & (told[:, AT["shape"]] > 0)
    digits = (found > 7) & (told[:, AT["digit"]] > 0)
    assert shapes.sum() > 5
    assert digits.sum() > 2
    assert (found[shapes] == told[shapes, AT["shape"]]).all()
    assert (found[digits] - 7 == told[digits, AT["digit"]]).all()
    assert (told[found == 0, AT["shape"]] <= 0).all()


def plan(steps: int) -> PrunerPlan:
    return PrunerPlan("m", "scenes", steps, batch=2, rate=1e-2, method="dtop")


def test_it_learns_what_tokens_show(tiny_vlm: VLM, tmp_path: Path) -> None:
    class Few(SceneRecords):
        def at(self, place: int) -> Record:
            return super().at(place % 2)

    fit.train(tiny_vlm, Few(), plan(40), tmp_path, DToPTrainee(tiny_vlm, plan(40)), every=10)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0]
    record = Few().at(0)
    vlm = load(tiny_vlm.model_id, pruner=str(tmp_path))
    encoded = vlm.encode([record.picture()])
    logits = vlm.tokens(encoded, "", frozenset({"dtop"})).signal("dtop")
    labels = torch.from_numpy(token_classes(record.shows(), encoded.rects))
    assert float(F.cross_entropy(logits, labels, ignore_index=IGNORED)) < losses[0]


def test_a_stopped_run_ends_like_one_that_was_not(tiny_vlm: VLM, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit.train(tiny_vlm, SceneRecords(), plan(4), whole, DToPTrainee(tiny_vlm, plan(4)), every=2)
    with interrupted(DToPTrainee, after=5):
        fit.train(tiny_vlm, SceneRecords(), plan(4), stopped, DToPTrainee(tiny_vlm, plan(4)), every=2)
    assert (stopped / "curve.jsonl").read_text().count("\n") == 1
    fit.train(tiny_vlm, SceneRecords(), plan(4), stopped, DToPTrainee(tiny_vlm, plan(4)), every=2, resume=True)
    for name in ("dtop.safetensors", "curve.jsonl"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    modules = Run(stopped).modules
    assert list(modules) == [2, 4]
    early, late = (load_pruner(path, tiny_vlm.model)["dtop"].head.weight for path in modules.values())
    assert torch.equal(late, load_pruner(stopped, tiny_vlm.model)["dtop"].head.weight)
    assert not torch.equal(early, late)


def test_the_loss_is_that_of_the_tokens_that_are_told_apart(tiny_vlm: VLM) -> None:
    trainee, record = DToPTrainee(tiny_vlm, plan(1)), SceneRecords().at(3)
    module = trainee.new(tiny_vlm, torch.Generator().manual_seed(1))
    encoded = tiny_vlm.encode([record.picture()])
    rows = encoded.tokens.features.double()
    rows = (rows - rows.mean(1, keepdim=True)) / (rows.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    logits = rows @ module.head.weight.double().T + module.head.bias.double()
    told = [(i, c) for i, c in enumerate(token_classes(record.shows(), encoded.rects).tolist()) if c != IGNORED]
    wanted = sum(float((logits[i].logsumexp(0) - logits[i, c]).detach()) for i, c in told) / len(told)
    weight, loss = trainee.losses(tiny_vlm, module, record, 0)["loss"]
    assert (weight, float(loss.detach())) == (1.0, pytest.approx(wanted, rel=1e-4))


def test_a_held_out_question_is_answered_on_what_the_method_keeps(tiny_vlm: VLM, monkeypatch) -> None:
    trainee, record = DToPTrainee(tiny_vlm, plan(1)), SceneRecords().at(3)
    module = trainee.new(tiny_vlm, torch.Generator().manual_seed(1))
    encoded = tiny_vlm.encode([record.picture()])
    with torch.no_grad():
        tokens = encoded.tokens.with_signals(dtop=module(encoded.tokens.features))
    kept = make("dtop").select(tokens, keep_count(encoded.tokens.n, 0.2)).indices
    answer, asked = tiny_vlm.answer(encoded, record.question, kept).text, []
    plain = tiny_vlm.answer
    monkeypatch.setattr(tiny_vlm, "answer", lambda *args: asked.append(args[2]) or plain(*args))
    assert trainee.score(tiny_vlm, module, record, 0.2) == float(answer.strip().lower() == record.answer)
    assert torch.equal(asked[0], kept)


def test_the_command_trains_it_and_other_data_is_refused(
    tiny_folder: Path, tmp_path: Path, noise, capsys: pytest.CaptureFixture[str]
) -> None:
    out, common = tmp_path / "out", ["pruner", "--method", "dtop", "--model", str(tiny_folder), "--batch", "1"]
    assert main([*common, "--steps", "2", "--held-out", "1", "--out", str(out)]) == 0
    assert load(tiny_folder, pruner=str(out)).signals >= {"dtop"}
    assert main([*common, "--guided", "0.5", "--out", str(tmp_path / "third")]) == 2
    assert "--guided belongs to covipal, and dtop learns from no attention" in capsys.readouterr().err
    noise(90, 60).save(tmp_path / "0.png")
    row = {"image": "0.png", "question": "what color is it?", "answer": "red"}
    (tmp_path / "data.jsonl").write_text(json.dumps(row))
    assert main([*common, "--data", str(tmp_path / "data.jsonl"), "--out", str(tmp_path / "other")]) == 2
    assert "line 1 does not tell what each pixel shows, which dtop learns" in capsys.readouterr().err


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_a_run_of_another_module_is_left_as_it_is(tiny_vlm: VLM, tmp_path: Path, resume: bool) -> None:
    fit.train(tiny_vlm, SceneRecords(), plan(1), tmp_path, DToPTrainee(tiny_vlm, plan(1)))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with pytest.raises(ValueError, match=r"holds a run of dtop, not of scorer: name another folder with --out"):
        fit.train(tiny_vlm, SceneRecords(), plan(1), tmp_path, fit.ScorerTrainee(plan(1)), resume=resume)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
