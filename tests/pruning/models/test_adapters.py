"""Adapters beside a checkpoint's weights, alone, or unmerged among the weights: applied by peft, or refused."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.models import ModelError, load
from pruning.models.checkpoint import adapters
from pruning.models.checkpoint.memory import estimate
from tests.checkpoints.lora import PROJECTION, write_adapter


@pytest.fixture
def beside(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint with an adapter beside its weights."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "beside"))
    write_adapter(folder, str(folder), tiny_folder)
    return folder


@pytest.fixture
def alone(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder with nothing but an adapter for the tiny checkpoint."""
    folder = tmp_path / "alone"
    folder.mkdir()
    write_adapter(folder, str(tiny_folder), tiny_folder)
    return folder


def without_peft(monkeypatch) -> None:
    monkeypatch.setattr(adapters, "available", lambda: False)


# Without peft


def test_an_adapter_beside_the_weights_is_not_left_out(beside: Path, monkeypatch) -> None:
    without_peft(monkeypatch)
    for attempt in (load, estimate):
        with pytest.raises(
            ModelError, match=r"holds an adapter beside its weights.*`pip install peft`.*take the adapter"
        ):
            attempt(beside)


def test_an_adapter_alone_is_called_one(alone: Path, monkeypatch) -> None:
    without_peft(monkeypatch)
    with pytest.raises(
        ModelError, match=r"is an adapter, not a whole model.*`pip install peft`.*merge_and_unload"
    ) as said:
        load(alone)
    assert "take the adapter" not in str(said.value)  # there would be nothing left


@pytest.mark.parametrize("lost", ["adapter_config.json", "adapter_model.safetensors"])
def test_half_an_adapter_is_told(lost: str, beside: Path, peft: list[str]) -> None:
    (beside / lost).unlink()
    with pytest.raises(ModelError, match=f"half of an adapter: adapter_.* without {lost}"):
        load(beside)
    assert peft == []


# With it


def test_an_adapter_is_applied_once_and_named_by_its_own_folder(
    beside: Path, alone: Path, tiny_folder: Path, peft: list[str]
) -> None:
    for folder in (beside, alone):
        vlm = load(folder)
        assert (vlm.title, vlm.model_id) == (folder.name, str(folder))
        assert not any(p.requires_grad for p in vlm.model.parameters())
    assert peft == [str(beside), str(alone)]
    added, plain = estimate(alone), estimate(tiny_folder)
    assert added is not None
    assert plain is not None
    size = sum(t.numel() * 4 for t in load_file(alone / "adapter_model.safetensors").values())
    assert added.weights_bytes == plain.weights_bytes + size


@pytest.mark.parametrize("fault", ["missing_keys", "unexpected_keys", "mismatched_keys"])
def test_an_adapter_for_another_model_is_refused(fault: str, beside: Path, peft: list[str], monkeypatch) -> None:
    report = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
    report[fault] = {("layers.9.lora_A", (4, 9), (4, 8)) if fault == "mismatched_keys" else "layers.9.lora_A"}
    monkeypatch.setattr("transformers.PreTrainedModel.load_adapter", lambda *values: SimpleNamespace(**report))
    with pytest.raises(
        ModelError, match=r"1 tensors of the adapter \(LORA\) .*layers\.9\.lora_A for one.*another model"
    ):
        load(beside)


def test_an_adapter_that_peft_refuses(beside: Path, peft: list[str], monkeypatch) -> None:
    def refuse(*values) -> None:
        raise ValueError("prompts are not supported")

    monkeypatch.setattr("transformers.PreTrainedModel.load_adapter", refuse)
    with pytest.raises(
        ModelError, match=r"its adapter \(LORA\) cannot be applied \(prompts are not supported\): merge"
    ):
        load(beside)


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        (None, "does not say for which model"),
        (7, "does not say for which model"),
        ("./gone/away", "the model that it is for is not here: ./gone/away is neither a folder"),
        ("SELF", "is an adapter for another adapter"),
    ],
)
def test_the_model_that_an_adapter_is_for_must_be_there(base, reason: str, alone: Path, peft: list[str]) -> None:
    settings = json.loads((alone / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(alone) if base == "SELF" else base
    (alone / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=reason):
        load(alone)
    (alone / "adapter_config.json").write_text("[]")
    with pytest.raises(
        ModelError, match=r"adapter_config\.json, the settings of its adapter, cannot be read \(it holds \[\]"
    ):
        load(alone)


def test_peft_itself_gives_the_merged_model_s_answer(
    beside: Path, alone: Path, tiny_folder: Path, tmp_path, noise
) -> None:
    pytest.importorskip("peft", reason="peft is not installed: what is asked of it is tested above")
    merged = Path(shutil.copytree(tiny_folder, tmp_path / "merged"))
    weights = load_file(merged / "model.safetensors")
    for name, change in write_adapter(beside, str(beside), tiny_folder).items():
        weights[name] += change
    save_file(weights, merged / "model.safetensors", {"format": "pt"})
    scores = {}
    for folder in (tiny_folder, merged, beside, alone):
        vlm = load(folder)
        (scores[folder],) = vlm.logprobs(vlm.encode([noise(90, 60)]), "what color", [0, 1], [None])
    for folder in (beside, alone):
        torch.testing.assert_close(scores[folder], scores[merged], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(scores[tiny_folder], scores[merged], atol=1e-2)


# Among the weights


@pytest.mark.parametrize(
    "name", [f"{PROJECTION}.lora_A.weight", f"base_model.model.{PROJECTION}.lora_A.default.weight"]
)
def test_an_unmerged_adapter_among_the_weights_is_refused(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "unmerged"))
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, name: torch.zeros(4, 48)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"tensors of an adapter that was not merged .*lora_A.*: merge it"):
        load(folder)
