"""The shipped model's stages: the fast passes equal the library's, a stopped run goes on where it was."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pruning.models import load
from pruning.scenes import render
from pruning.training import export, language, loop, scorer, tower, vision
from pruning.training.data import dense_batch, dense_labels
from pruning.training.shipped import WORDS, new_model, save_model
from pruning.training.vision import new_heads


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return new_model().eval()


def test_the_fast_tower_is_the_library_s(model: nn.Module, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    vlm = load(tmp_path)
    image = render(3, 224, 336).image
    with torch.no_grad():
        fast = tower.encode(model.model.visual, tower.windows(torch.from_numpy(image)[None]), 8, 12)[0]
    torch.testing.assert_close(fast, vlm.encode([Image.fromarray(image)]).tokens.features, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kept", [None, torch.tensor([0, 5, 17, 40, 95])])
def test_the_fast_decoder_is_the_library_s(model: nn.Module, tmp_path: Path, kept: torch.Tensor | None) -> None:
    save_model(model, tmp_path)
    vlm = load(tmp_path)
    scene = render(8, 224, 336)
    encoded = vlm.encode([Image.fromarray(scene.image)])
    asked = language.ask_all([scene], np.random.default_rng(0), 4, reworded=0.5)
    with torch.no_grad():
        seen, rows = encoded.tokens.features[None], None if kept is None else kept[None]
        fast = language.answer(model, seen, asked, 8, 12, rows)[0]
    for q in range(4):
        words = [WORDS[i] for i in asked.ids[0, q][asked.real[0, q]].tolist()]
        text, said = " ".join(words[1:-4]), asked.ids[0, q, -1].item()
        (slow,) = vlm.logprobs(encoded, text, [said, language.END], [kept])
        torch.testing.assert_close(fast[q].log_softmax(-1), slow, atol=1e-4, rtol=1e-4)


def test_dense_labels_name_what_is_under_a_token() -> None:
    scene = render(2, 336, 336)
    labels = dense_labels(scene)
    assert labels.shape == (144, 4)
    assert labels[:, 3].sum() == len(scene.objects)
    ground = (scene.owner == 0).reshape(12, 28, 12, 28).all((1, 3)).ravel() & (labels[:, 3] == 0)
    assert (labels[ground, :2] == 0).all()
    assert ground.any()


def test_a_step_is_always_the_same_batch() -> None:
    sizes = ((112, 112, 2),)
    for one, two in zip(dense_batch(4, sizes), dense_batch(4, sizes), strict=True):
        assert torch.equal(one, two)


def test_muon_updates_are_orthogonal() -> None:
    weight = nn.Parameter(torch.zeros(8, 5))
    weight.grad = torch.randn(8, 5)
    loop.Muon([weight], lr=1.0, weight_decay=0.0).step()
    singular = torch.linalg.svdvals(weight.detach()) / (0.2 * 8**0.5)
    assert singular.min() > 0.5
    assert singular.max() < 1.4


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    part, file = nn.Linear(3, 3), tmp_path / "part.pt"
    opts = loop.optimizers([part], 0.1)
    part(torch.ones(3)).sum().backward()
    for opt in opts:
        opt.step()
    loop.save(file, 7, {"part": part}, opts)
    fresh = nn.Linear(3, 3)
    fresh_opts = loop.optimizers([fresh], 0.1)
    assert loop.restore(file, {"part": fresh}, fresh_opts) == 7
    for p, q in zip(part.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q)
    for opt, again in zip(opts, fresh_opts, strict=True):
        for p, q in zip(opt.state.values(), again.state.values(), strict=True):
            assert all(torch.equal(torch.as_tensor(p[k]), torch.as_tensor(q[k])) for k in p)
    assert loop.restore(tmp_path / "none.pt", {"part": fresh}) == 0


def test_the_sparse_stage_keeps_a_share_of_the_tokens_in_order() -> None:
    heads = new_heads()
    kept = language._mostly_objects(heads, torch.randn(3, 64, 192), 0.25, seed=1)
    assert kept.shape == (3, 16)
    assert (kept[:, 1:] > kept[:, :-1]).all()
    assert torch.equal(kept, kept.clone().clamp(0, 63))


def test_every_stage_runs_resumes_and_ends_in_a_model_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, small = torch.device("cpu"), ((112, 112, 24),)
    monkeypatch.setattr(vision.torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(vision, "dense_batch", functools.partial(dense_batch, sizes=((112, 112, 2),)))
    for module in (language, scorer):
        monkeypatch.setattr(module, "CACHED", small)
    monkeypatch.setattr(language, "VALIDATION", small)
    vision.train(tmp_path, 2, cpu)
    for steps in (1, 2):  # the second call goes on from the first one's checkpoint
        language.train(tmp_path, steps, cpu)
    language.sparse(tmp_path, 2, cpu)
    scorer.train(tmp_path, 1, cpu)
    export.export(tmp_path, tmp_path / "out")
    vlm = load(tmp_path / "out")
    assert "scorer" in vlm.signals
    assert vlm.encode([Image.new("RGB", (112, 112))], frozenset({"scorer"})).tokens.signal("scorer").shape == (16,)


def test_export_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no trained model"):
        export.export(tmp_path, tmp_path / "out")
