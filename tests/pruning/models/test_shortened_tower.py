"""Tokens that leave inside the vision tower, against a loop by hand over its layers that masks them."""

import pytest
import torch

from pruning import make
from pruning.allocation import select_within
from pruning.models import VLM, load
from tests.checkpoints.llava import tiny_llava
from tests.checkpoints.qwen_vl import tiny_qwen2_vl

NEED = frozenset({"tower"})
QUESTION = "What color is the star?"


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> VLM:
    """Of three vision layers, the output of the last is projected: tokens may leave after two."""
    vlm = load(tiny_llava(tmp_path_factory.mktemp("tower") / "tiny-llava"))
    vlm.config.vision_feature_layer = -1
    return vlm


@torch.no_grad()
def by_hand(vlm: VLM, image, kept: list[torch.Tensor]) -> torch.Tensor:
    """Features of the tokens kept last: after layer i all but kept[i] are masked, and nothing leaves."""
    tower = vlm.model.model.vision_tower
    pixels = vlm.image_processor(images=[image], return_tensors="pt")["pixel_values"]
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    mask = torch.zeros(1, 1, hidden.shape[1], hidden.shape[1])
    for i, layer in enumerate(tower.encoder.layers):
        hidden = layer(hidden, attention_mask=mask)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        if i < len(kept):
            gone = torch.ones(hidden.shape[1], dtype=torch.bool)
            gone[0] = gone[1 + kept[i]] = False
            mask = mask.masked_fill(gone, -torch.inf)
    return vlm.model.model.multi_modal_projector(hidden[:, 1 + kept[-1]])[0]


def test_what_leaves_in_the_tower_is_seen_by_no_later_layer(llava: VLM, noise) -> None:
    images = [noise(60, 40), noise(30, 50, seed=1)]
    encoded = llava.encode(images, NEED)
    tower, flows = encoded.tokens.signal("tower"), []
    kept = [torch.arange(0, 25, 2), torch.arange(0, 25, 2)[[1, 2, 5, 11]]]

    def rule(flow):
        flows.append(flow)
        return torch.arange(0, 25, 2) if len(flow.attention) == 25 else torch.tensor([1, 2, 5, 11])

    for picture, image in enumerate(images):
        expected = by_hand(llava, image, kept)
        torch.testing.assert_close(tower(picture, rule), expected, rtol=1e-4, atol=1e-5)
        assert float((expected - encoded.tokens.features[25 * picture + kept[-1]]).abs().max()) > 1e-3
    assert [(flow.left, len(flow.attention), flow.values.shape[0]) for flow in flows[:2]] == [(1, 25, 25), (0, 13, 13)]
    assert flows[0].cls.shape == flows[0].values.shape[1:]
    layer = llava.encode(images[:1], frozenset({"vision_attention@0", "vision_values@0"})).tokens
    torch.testing.assert_close(flows[0].attention, layer.signal("vision_attention@0"))
    torch.testing.assert_close(flows[0].values, layer.signal("vision_values@0"))


def test_where_nothing_leaves_the_features_are_those_of_the_plain_tower(llava: VLM, noise) -> None:
    encoded = llava.encode([noise(60, 40)], NEED)
    whole = make("flowcut_tower").select(encoded.tokens, encoded.tokens.n)
    torch.testing.assert_close(whole.merged, encoded.tokens.features, rtol=1e-4, atol=1e-5)
    plain = llava.answer(encoded, QUESTION, max_new_tokens=4).ids
    assert llava.answer(encoded, QUESTION, whole, max_new_tokens=4).ids == plain


def test_each_picture_leaves_its_share_and_the_answer_takes_the_tower_s_rows(llava: VLM, noise) -> None:
    encoded = llava.encode([noise(60, 40), noise(30, 50, seed=1)], NEED)
    method = make("flowcut_tower")
    for per in ("sample", "image"):
        chosen = select_within(method, encoded.tokens, 0.3, per)
        assert [int(chosen.mask[:25].sum()), int(chosen.mask[25:].sum())] in ([8, 7], [8, 8])
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in llava.model.modules()]
    (changed,) = llava.logprobs(encoded, QUESTION, [3, 4], [chosen])
    (plain,) = llava.logprobs(encoded, QUESTION, [3, 4], [chosen.indices])
    assert float((changed - plain).abs().max()) > 1e-4

    def broken(flow):
        raise RuntimeError("out of memory at a cut")

    with pytest.raises(RuntimeError, match="at a cut"):
        encoded.tokens.signal("tower")(0, broken)
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in llava.model.modules()]


def test_other_towers_do_not_offer_it(llava: VLM, noise, tmp_path) -> None:
    assert "tower" in llava.signals
    assert "tower" not in load(tiny_qwen2_vl(tmp_path / "tiny-qwen2-vl")).signals
    several = load(llava.model_id)
    several.config.vision_feature_layer = [1, 2]  # the outputs of two layers, side by side
    assert "tower" not in several.signals
    with pytest.raises(ValueError, match="cannot provide the signal 'tower'"):
        several.encode([noise(50, 50)], NEED)
