"""The importance scorer: its formula, and how strictly its file is read."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.models import ModelError, Scorer, load
from pruning.models.scorer import load_scorer


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
    again = load_scorer(tmp_path, 8)
    assert again is not None
    features = torch.randn(5, 8)
    torch.testing.assert_close(again(features), scorer(features))
    assert not any(p.requires_grad for p in again.parameters())


def test_no_file_means_no_scorer(tmp_path: Path) -> None:
    assert load_scorer(tmp_path, 8) is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda w: w.pop("k_proj.bias"), "no scorer for this model"),
        (lambda w: w.pop("q_proj.weight"), "no scorer for this model"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra"),
        (lambda w: w.update({"k_proj.weight": torch.zeros(4, 8)}), "no scorer for this model"),
        (lambda w: w["q_proj.bias"].fill_(float("nan")), "NaN"),
    ],
    ids=["missing", "missing-q", "unexpected", "shape", "nan"],
)
def test_wrong_files_are_refused(fault, reason: str, tmp_path: Path) -> None:
    Scorer(8, 3).save(tmp_path)
    weights = load_file(tmp_path / "scorer.safetensors")
    fault(weights)
    save_file(weights, tmp_path / "scorer.safetensors")
    with pytest.raises(ModelError, match=reason):
        load_scorer(tmp_path, 8)


def test_scorer_of_another_width_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    Scorer(8, 3).save(tmp_path)
    with pytest.raises(ModelError, match=r"\(hidden, 16\)"):
        load_scorer(tmp_path, 16)
    (tmp_path / "scorer.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="cannot be read"):
        load_scorer(tmp_path, 8)


def test_signal_is_the_scorer_on_the_features(tiny_vlm, noise) -> None:
    encoded = tiny_vlm.encode([noise(120, 90)], frozenset({"scorer"}))
    torch.testing.assert_close(encoded.tokens.signal("scorer"), tiny_vlm.scorer(encoded.tokens.features))
    later = tiny_vlm.tokens(tiny_vlm.encode([noise(120, 90)]), "why", frozenset({"scorer"}))
    torch.testing.assert_close(later.signal("scorer"), encoded.tokens.signal("scorer"))


def test_a_model_without_scorer_says_so(tiny_folder: Path, tmp_path: Path, noise) -> None:
    for file in tiny_folder.iterdir():
        if not file.name.startswith("scorer"):
            (tmp_path / file.name).symlink_to(file)
    vlm = load(tmp_path)
    assert "scorer" not in vlm.signals
    with pytest.raises(ValueError, match="no trained importance scorer"):
        vlm.encode([noise(60, 60)], frozenset({"scorer"}))
