"""The importance scorer: its formula, where it is found, and how strictly its file is read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.models import ModelError, Scorer
from pruning.models.checkpoint import reach
from pruning.models.scorer import beside, load_scorer
from tests.helpers.hub import Hub


def saved(folder: Path, prefix: str = "", name: str = "scorer.safetensors", **more: torch.Tensor) -> Scorer:
    """A random scorer (8 -> 3) written under names of its own; returns it."""
    torch.manual_seed(1)
    scorer = Scorer(8, 3).eval()
    save_file({**{prefix + key: value for key, value in scorer.state_dict().items()}, **more}, folder / name)
    return scorer


def same(one: Scorer | None, other: Scorer) -> bool:
    assert one is not None
    features = torch.randn(5, 8)
    return torch.equal(one(features), other(features))


def test_formula_is_the_mean_over_all_pairs() -> None:
    torch.manual_seed(0)
    scorer, features = Scorer(10, 4), torch.randn(7, 10)
    query, key = scorer.q_proj(features), scorer.k_proj(features)
    pairs = query @ key.T / 4**0.5  # (N, N)
    torch.testing.assert_close(scorer(features), pairs.mean(1))
    batch = torch.stack([features, features.flip(0)])
    torch.testing.assert_close(scorer(batch)[1], scorer(features).flip(0))


def test_saved_scorer_is_read_back(tmp_path: Path) -> None:
    scorer = Scorer(8, 3)
    scorer.save(tmp_path)
    assert same(beside(tmp_path, 8), scorer)
    again = load_scorer(tmp_path, 8)
    assert same(again, scorer)
    assert not any(p.requires_grad for p in again.parameters())


def test_half_precision_files_are_read_as_float32(tmp_path: Path) -> None:
    scorer = Scorer(8, 3)
    save_file({name: tensor.bfloat16() for name, tensor in scorer.state_dict().items()}, tmp_path / "any.safetensors")
    assert {p.dtype for p in load_scorer(tmp_path, 8).parameters()} == {torch.float32}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "visual.importance_scorer.",
                                    "model.visual.importance_scorer.module."])  # fmt: skip
def test_known_prefixes_are_taken_off(prefix: str, tmp_path: Path) -> None:
    scorer = saved(tmp_path, prefix, "model.safetensors")
    assert same(load_scorer(tmp_path, 8), scorer)


def test_a_scorer_among_a_model_s_own_tensors_is_found(tmp_path: Path) -> None:
    scorer = saved(tmp_path, "visual.importance_scorer.", "model.safetensors", other=torch.zeros(2))
    assert same(load_scorer(tmp_path, 8), scorer)
    assert same(beside(tmp_path, 8), scorer)


def test_a_scorer_in_one_of_several_shards_is_found(tmp_path: Path) -> None:
    scorer = saved(tmp_path, "visual.importance_scorer.", "model-2.safetensors")
    save_file({"other": torch.zeros(2)}, tmp_path / "model-1.safetensors")
    names = {f"visual.importance_scorer.{name}": "model-2.safetensors" for name in scorer.state_dict()}
    index = {"weight_map": {"other": "model-1.safetensors", **names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(load_scorer(tmp_path, 8), scorer)
    assert same(beside(tmp_path, 8), scorer)


def test_a_checkpoint_without_scorer_has_none(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert beside(tmp_path, 8) is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda w: w.pop("k_proj.bias"), r"needed are q_proj and k_proj .* it has k_proj\.weight \(3, 8\)"),
        (lambda w: w.pop("q_proj.weight"), "no scorer for this model"),
        (lambda w: w.update(extra=torch.zeros(1)), r"extra \(1,\)"),
        (lambda w: w.update({"norm.q_proj.weight": torch.zeros(1)}), r"norm\.q_proj\.weight"),
        (lambda w: w.update({"k_proj.weight": torch.zeros(4, 8)}), "no scorer for this model"),
        (lambda w: w.update({"q_proj.weight": torch.tensor(1.0)}), "no scorer for this model"),
        (lambda w: w.update({"module.q_proj.bias": torch.zeros(3)}), r"module\.q_proj\.bias"),
        (lambda w: w["q_proj.bias"].fill_(float("nan")), "NaN"),
        (lambda w: w["k_proj.weight"].fill_(float("inf")), "infinite"),
    ],
    ids=["missing", "missing-q", "unexpected", "unknown-prefix", "shape", "scalar", "twice", "nan", "infinite"],
)
def test_wrong_files_are_refused(fault, reason: str, tmp_path: Path) -> None:
    Scorer(8, 3).save(tmp_path)
    weights = load_file(tmp_path / "scorer.safetensors")
    fault(weights)
    save_file(weights, tmp_path / "scorer.safetensors")
    for read in (load_scorer, beside):
        with pytest.raises(ModelError, match=reason):
            read(tmp_path, 8)


def test_scorer_of_another_width_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    Scorer(8, 3).save(tmp_path)
    with pytest.raises(ModelError, match=r"\(hidden, 16\)"):
        load_scorer(tmp_path, 16)
    (tmp_path / "scorer.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="cannot be read"):
        load_scorer(tmp_path, 8)


@pytest.mark.parametrize("name", ["._selector.safetensors", ".DS_Store", "desktop.ini", "Thumbs.db"])
def test_what_a_file_system_leaves_is_no_second_file(name: str, tmp_path: Path) -> None:
    Scorer(8, 4).save(tmp_path)
    (tmp_path / "scorer.safetensors").rename(tmp_path / "selector.safetensors")
    (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert load_scorer(tmp_path, 8).q_proj.in_features == 8


def test_folders_without_one_scorer_are_refused(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="no safetensors file"):
        load_scorer(tmp_path, 8)
    for name in ("a.safetensors", "b.safetensors"):
        saved(tmp_path, name=name)
    with pytest.raises(ModelError, match="2 safetensors files, none of them scorer"):
        load_scorer(tmp_path, 8)
    with pytest.raises(ModelError, match="neither a folder here nor a hub id"):
        load_scorer("./absent", 8)
    (tmp_path / "b.safetensors").unlink()
    (tmp_path / "a.safetensors").rename(tmp_path / "pytorch_model.bin")  # a pickle may run code: never opened
    with pytest.raises(ModelError, match="no safetensors file"):
        load_scorer(tmp_path, 8)


# On the hub


@pytest.fixture
def repository(hub: Hub) -> Path:
    """The folder of the repository maker/selector."""
    folder = hub.repository("maker/selector")
    folder.mkdir(parents=True)
    return folder


def fetched(hub: Hub) -> set[str]:
    """Names of the files whose content was asked for."""
    return {path.rpartition("/")[2] for method, path, _ in hub.of("/resolve/") if method == "GET"}


def test_published_selector_weights_are_fetched_alone(hub: Hub, repository: Path) -> None:
    scorer = saved(repository, name="model.safetensors")
    (repository / "selector.py").write_text("raise SystemExit('their code ran')")
    (repository / "config.json").write_text('{"architecture": "TransformerScorer"}')
    assert same(load_scorer("maker/selector", 8), scorer)
    assert fetched(hub) == {"model.safetensors"}


def test_of_a_whole_checkpoint_only_the_file_with_the_scorer_is_fetched(hub: Hub, repository: Path) -> None:
    scorer = saved(repository, "visual.importance_scorer.", "model-2.safetensors")
    save_file({"other": torch.zeros(2)}, repository / "model-1.safetensors")
    names = {f"visual.importance_scorer.{name}": "model-2.safetensors" for name in scorer.state_dict()}
    index = {"weight_map": {"other": "model-1.safetensors", **names}}
    (repository / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(load_scorer("maker/selector", 8), scorer)
    assert fetched(hub) == {"model.safetensors.index.json", "model-2.safetensors"}


def test_a_whole_checkpoint_without_scorer_is_refused(repository: Path) -> None:
    (repository / "model.safetensors.index.json").write_text('{"weight_map": {"other": "model-1.safetensors"}}')
    with pytest.raises(ModelError, match=r"maker/selector is no scorer .* none of its tensors"):
        load_scorer("maker/selector", 8)


def test_without_a_connection_the_cache_serves(hub: Hub, repository: Path, home: Path) -> None:
    scorer = saved(repository, name="model.safetensors")
    load_scorer("maker/selector", 8)
    hub.close()
    reach.forget()
    assert same(load_scorer("maker/selector", 8), scorer)
    shutil.rmtree(home)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load_scorer("maker/selector", 8)
