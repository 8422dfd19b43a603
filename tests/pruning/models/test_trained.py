"""Modules that were trained to prune a model: what they compute, and how strictly their files are read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from pruning import ops
from pruning.choosing import came_to, choose
from pruning.method import make
from pruning.models import SHIPPED, VLM, ModelError, load
from pruning.models.trained import ATPLLaVA, CoViPAL, DToP, QTSplus, fingerprint, load_pruner, save
from pruning.scenes.held_out import held_out
from pruning.scenes.worlds import SCENES
from tests.checkpoints import tiny_llava, tiny_qwen2_5_vl
from tests.helpers.clips import moving
from tests.helpers.modules import equipped


def module(vlm: VLM, seed: int = 0) -> CoViPAL:
    torch.manual_seed(seed)
    return CoViPAL(int(vlm.config.get_text_config().hidden_size), 8).eval()


def by_hand(of: CoViPAL, features: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """The scores from the weights alone: normalise, map, one pre-norm block of four heads, read out."""
    weights = {name: tensor.double() for name, tensor in of.state_dict().items()}

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str = "") -> torch.Tensor:
        y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return y * weights[f"{name}.weight"] + weights[f"{name}.bias"] if name else y

    x = torch.cat([linear(norm(features.double()), "visual"), linear(norm(words.double()), "words")])
    y = norm(x, "block.norm1")
    q, k, v = (y @ weights["block.self_attn.in_proj_weight"].T + weights["block.self_attn.in_proj_bias"]).chunk(3, -1)
    heads = []
    for a, b, c in zip(q.chunk(4, -1), k.chunk(4, -1), v.chunk(4, -1), strict=True):
        heads.append((a @ b.T / a.shape[-1] ** 0.5).softmax(-1) @ c)
    x = x + linear(torch.cat(heads, -1), "block.self_attn.out_proj")
    x = x + linear(F.gelu(linear(norm(x, "block.norm2"), "block.linear1")), "block.linear2")
    return linear(x, "score")[: len(features), 0]


def test_its_scores_are_those_of_its_weights_and_ask_for_no_order(tiny_vlm: VLM) -> None:
    of, features, words = module(tiny_vlm), torch.randn(7, 48), torch.randn(3, 48)
    with torch.no_grad():
        scores = of(features, words)
        turned = of(features.flip(0), words.flip(0)).flip(0)
        other = of(features, words + 1.0 * torch.randn(3, 48))
    torch.testing.assert_close(scores.double(), by_hand(of, features, words), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned, scores, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(other, scores, atol=1e-3)


def test_its_picks_are_those_of_the_library_s_block() -> None:
    """On held-out scenes with the shipped weights: the block written out ranks as the one it was trained with."""
    vlm = load(SHIPPED, device="cpu")
    of = vlm.pruners["covipal"]
    for picture, questions in held_out(SCENES, 3):
        features = vlm.encode([Image.fromarray(picture.image)]).tokens.features
        for question in questions[:2]:
            words = vlm.tokens(vlm.encode([Image.new("RGB", (56, 56))]), question.text, frozenset({"question"}))
            said = words.signal("question")
            with torch.no_grad():
                found = of(features, said)
                rows = [F.layer_norm(part, part.shape[-1:]) for part in (features, said)]
                whole = of.block(torch.cat([of.visual(rows[0]), of.words(rows[1])])[None])[0, : len(features)]
                wanted = of.score(whole)[:, 0]
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
            assert ops.topk(found, len(found) // 4).tolist() == ops.topk(wanted, len(found) // 4).tolist()


def test_a_model_with_it_keeps_what_scores_highest_for_the_question(tiny_vlm: VLM, noise, tmp_path: Path) -> None:
    of = module(tiny_vlm)
    save(of, tmp_path, tiny_vlm.model, {"steps": 1})
    vlm = load(tiny_vlm.model_id, pruner=str(tmp_path))
    assert vlm.signals - tiny_vlm.signals == {"covipal"}
    encoded, method = vlm.encode([noise(150, 120)]), make("covipal")
    kept = []
    for question in ("what color is the star?", "how many squares are there?"):
        tokens = vlm.tokens(encoded, question, method.needs)
        with torch.no_grad():
            scores = of(tokens.features, vlm.tokens(encoded, question, frozenset({"question"})).signal("question"))
        torch.testing.assert_close(tokens.signal("covipal"), scores)
        kept.append(choose(method, tokens, vlm.layers, 0.25).order)
        assert kept[-1].tolist() == scores.sort(descending=True, stable=True).indices[: len(kept[-1])].tolist()
    assert not torch.equal(*kept)


@pytest.mark.parametrize("name", ["covipal", "dtop", "qtsplus"])
def test_a_model_without_it_says_what_helps(tiny_vlm: VLM, noise, name: str) -> None:
    encoded = tiny_vlm.encode([noise(150, 120)])
    with pytest.raises(ValueError, match=rf"no trained module for {name}.*--pruner.*--method {name} --model"):
        tiny_vlm.tokens(encoded, "what color is the star?", make(name).needs)


def test_a_fingerprint_is_of_the_model_whatever_its_dtype(tiny_vlm: VLM, tmp_path: Path) -> None:
    brain, half = (load(tiny_vlm.model_id, dtype=dtype) for dtype in ("bfloat16", "float16"))
    assert fingerprint(brain.model) == fingerprint(tiny_vlm.model)
    brain.model.half()  # weights that are bfloat16 on disk, held in float16
    assert fingerprint(brain.model) == fingerprint(tiny_vlm.model)
    tower = half.model.model.visual
    next(weight for weight in tower.parameters() if weight.ndim == 1).data.add_(0.1)
    assert fingerprint(half.model) != fingerprint(tiny_vlm.model)
    other = load(tiny_qwen2_5_vl(tmp_path / "other", seed=5))
    assert fingerprint(other.model) != fingerprint(tiny_vlm.model)


def changed(folder: Path, name: str, **settings: object) -> None:
    told = json.loads((folder / name).read_text()) | settings
    (folder / name).write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "covipal.safetensors").unlink(), "holds no trained pruner"),
        (lambda folder: (folder / "covipal.json").unlink(), r"covipal.json cannot be read"),
        (lambda folder: (folder / "covipal.json").write_text("[]"), "cannot be read"),
        (lambda folder: (folder / "covipal.safetensors").write_bytes(b"no tensors"), "cannot be read"),
        (lambda folder: changed(folder, "covipal.json", dim=64), "width 64, and this model's have 48"),
        (lambda folder: changed(folder, "covipal.json", width=6), "must be a multiple of 4"),
        (lambda folder: changed(folder, "covipal.json", width=16), r"does not hold the tensors of covipal: .*\(8"),
        (lambda folder: changed(folder, "covipal.json", model="abc"), "trained for another model"),
        (lambda folder: drop(folder, "score.bias"), "score.bias missing"),
        (lambda folder: drop(folder, "", extra=torch.ones(2)), r"extra \(2,\)"),
        (lambda folder: drop(folder, "", **{"score.bias": torch.tensor([float("nan")])}), "NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_named(tiny_vlm: VLM, tmp_path: Path, break_it, said: str) -> None:
    save(module(tiny_vlm), tmp_path, tiny_vlm.model, {})
    assert list(load_pruner(tmp_path, tiny_vlm.model)) == ["covipal"]
    break_it(tmp_path)
    with pytest.raises(ModelError, match=said):
        load_pruner(tmp_path, tiny_vlm.model)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: changed(folder, "dtop.json", classes=0), "tells 0 classes apart: it must be at least 1"),
        (lambda folder: changed(folder, "dtop.json", classes=4), r"does not hold the tensors of dtop: .*\(3"),
        (
            lambda folder: (folder / "dtop.safetensors").rename(folder / "covipal.safetensors"),
            "covipal.json cannot be read",
        ),
        (
            lambda folder: [file.rename(folder / f"covipal{file.suffix}") for file in sorted(folder.iterdir())],
            "cannot be read",
        ),
    ],
)
def test_a_head_of_another_kind_or_size_is_named(tiny_vlm: VLM, tmp_path: Path, break_it, said: str) -> None:
    save(DToP(48, 3), tmp_path, tiny_vlm.model, {})
    assert list(load_pruner(tmp_path, tiny_vlm.model)) == ["dtop"]
    break_it(tmp_path)
    with pytest.raises(ModelError, match=said):
        load_pruner(tmp_path, tiny_vlm.model)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cuts": 0}, "has 0 cuts of width 4: at least 1 of each"),
        ({"width": 6}, r"does not hold the tensors of atp_llava: .*read.0.bias \(4,\)"),
        ({"cuts": 2}, "does not hold the tensors of atp_llava: read.2.bias"),
        ({"cuts": 4}, "does not hold the tensors of atp_llava: read.3.bias missing"),
        ({"dim": 64}, "width 64, and this model's have 48"),
        ({"model": "abc"}, "trained for another model"),
    ],
)
def test_thresholds_of_another_shape_or_model_are_named(tiny_vlm: VLM, tmp_path: Path, settings, said: str) -> None:
    save(ATPLLaVA(48, 3, 4), tmp_path, tiny_vlm.model, {})
    assert list(load_pruner(tmp_path, tiny_vlm.model)) == ["atp_llava"]
    changed(tmp_path, "atp_llava.json", **settings)
    with pytest.raises(ModelError, match=said):
        load_pruner(tmp_path, tiny_vlm.model)


def test_thresholds_are_what_the_formula_says() -> None:
    module, means = ATPLLaVA(48, 2, 3), torch.tensor([0.4, 0.1])
    weights = {name: value.detach().double() for name, value in module.state_dict().items()}
    z = weights["read.1.weight"] @ means.double() + weights["read.1.bias"]
    wanted = [
        float((1 + (-(weights[f"{head}.1.weight"] @ z + weights[f"{head}.1.bias"])).exp()) ** -1)
        for head in ("redundant", "spatial")
    ]
    assert module(1, means).tolist() == pytest.approx(wanted, rel=1e-5)
    assert torch.equal(module(7, means), module(1, means)), "a cut beyond the last one"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"heads": 0}, "has 0 heads of width 6 in 2 groups: at least 1 of each"),
        ({"groups": 3}, "has 4 heads of width 6 in 3 groups: .* heads that go into their groups"),
        ({"groups": 1}, r"does not hold the tensors of qtsplus: key.bias \(12,\)"),
        ({"width": 8}, r"does not hold the tensors of qtsplus: key.bias \(12,\)"),
        ({"dim": 64}, "width 64, and this model's have 48"),
        ({"model": "abc"}, "trained for another model"),
        ({"width": None}, "cannot be read"),
    ],
)
def test_a_selector_of_another_shape_or_model_is_named(tiny_vlm: VLM, tmp_path: Path, settings, said: str) -> None:
    save(QTSplus(48, 4, 2, 6), tmp_path, tiny_vlm.model, {})
    assert list(load_pruner(tmp_path, tiny_vlm.model)) == ["qtsplus"]
    changed(tmp_path, "qtsplus.json", **settings)
    with pytest.raises(ModelError, match=said):
        load_pruner(tmp_path, tiny_vlm.model)


def test_relevance_and_share_are_what_the_formula_says() -> None:
    """Head by head and word by word, in double precision; two heads share a group's keys."""
    torch.manual_seed(3)
    of, features, words = QTSplus(12, 4, 2, 6), torch.randn(7, 12), torch.randn(3, 12)
    of.norm.weight.data.uniform_(0.5, 1.5)
    w = {name: value.detach().double() for name, value in of.state_dict().items()}

    def mapped(x: torch.Tensor, name: str) -> torch.Tensor:
        x = x.double()
        x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * w["norm.weight"]
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    query, key = mapped(words, "query"), mapped(features, "key")
    best = torch.zeros(7, dtype=torch.float64)
    for head in range(4):
        group = head // 2
        for word in range(3):
            own = key[:, 6 * group : 6 * group + 6] @ query[word, 6 * head : 6 * head + 6] / 6**0.5
            best = torch.maximum(best, own.exp() / own.exp().sum())
    odds = best / best.sum()
    told = torch.tensor([math.log(7), float(best.max()), -sum(p * math.log(p) for p in odds.tolist())])
    hidden = F.gelu(w["budget.0.weight"] @ torch.cat([words.double().mean(0), told.double()]) + w["budget.0.bias"])
    raw = float(w["budget.2.weight"][0] @ hidden + w["budget.2.bias"][0])
    with torch.no_grad():
        found = of(features, words)
    torch.testing.assert_close(found[:, 0].double(), best, atol=1e-6, rtol=1e-5)
    assert found[:, 1].tolist() == pytest.approx([0.05 + 0.45 / (1 + math.exp(-raw))] * 7, rel=1e-5)
    assert torch.equal(found[:, 0].sort().indices, of.relevance(features, words).sort().indices)


def test_a_model_with_a_selector_keeps_exactly_or_what_the_question_takes(tiny_vlm: VLM, noise) -> None:
    """On a picture and on a clip: exact at a budget; by its own, as many as the head says and at most as many."""
    vlm = equipped(tiny_vlm)
    for encoded in (vlm.encode([noise(150, 120)]), vlm.encode([moving(6)])):
        n, orders = encoded.tokens.n, []
        for question in ("what color is the star?", "how many squares are there?"):
            tokens = vlm.tokens(encoded, question, make("qtsplus").needs)
            r, share = tokens.signal("qtsplus").T
            assert share.unique().numel() == 1
            exact, own = (choose(make("qtsplus", budget=how), tokens, vlm.layers, 0.75) for how in ("exact", "own"))
            assert exact.order.tolist() == r.sort(descending=True, stable=True).indices[: exact.k].tolist()
            assert own.order.tolist() == exact.order[: math.ceil(float(share[0]) * n - 1e-4)].tolist()
            assert came_to(own, vlm.layers, n) == own.k / n < 0.5 + 1 / n
            assert vlm.answer(encoded, question, own.indices, max_new_tokens=2).text is not None
            orders.append(exact.order)
        assert not torch.equal(*orders)


def test_other_modules_stand_beside_the_same_model(tiny_vlm: VLM) -> None:
    other = tiny_vlm.beside({"atp_llava": ATPLLaVA(48, 1, 4)})
    assert other.model is tiny_vlm.model
    assert other.signals - tiny_vlm.signals == {"atp_llava"}
    assert "atp_llava" not in tiny_vlm.pruners


def test_several_in_one_folder_serve_beside_each_other(tiny_vlm: VLM, noise, tmp_path: Path) -> None:
    head = DToP(48, 3).eval()
    save(head, tmp_path, tiny_vlm.model, {})
    save(module(tiny_vlm), tmp_path, tiny_vlm.model, {})
    vlm = load(tiny_vlm.model_id, pruner=str(tmp_path))
    assert vlm.signals - tiny_vlm.signals == {"covipal", "dtop"}
    encoded = vlm.encode([noise(150, 120)])
    with torch.no_grad():
        logits = head(encoded.tokens.features)
    found = vlm.tokens(encoded, "", make("dtop").needs)
    torch.testing.assert_close(found.signal("dtop"), logits)
    assert "question" not in found.signals


def drop(folder: Path, name: str, **more: torch.Tensor) -> None:
    file = folder / "covipal.safetensors"
    weights = {key: tensor for key, tensor in load_file(file).items() if key != name} | more
    save_file(weights, file)


def test_weights_for_another_model_are_refused_beside_it_too(tiny_vlm: VLM, tmp_path: Path) -> None:
    folder = tiny_llava(tmp_path / "model")
    save(module(tiny_vlm), folder, tiny_vlm.model, {})
    with pytest.raises(
        ModelError, match=r"covipal.safetensors (was trained for another model|is for features of width)"
    ):
        load(folder)


def test_scores_that_are_no_numbers_are_told(tiny_vlm: VLM, noise, tmp_path: Path) -> None:
    save(module(tiny_vlm), tmp_path, tiny_vlm.model, {})
    vlm = load(tiny_vlm.model_id, pruner=str(tmp_path))
    vlm.pruners["covipal"].score.weight.data[0, 0] = torch.nan
    encoded = vlm.encode([noise(60, 60)])
    with pytest.raises(ModelError, match=r"trained pruner covipal .* train it again"):
        vlm.tokens(encoded, "what?", make("covipal").needs)
