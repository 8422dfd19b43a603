"""Pictures of several samples through the tower together: what each has alone, and nothing of the others."""

import numpy as np
import pytest
import torch

from pruning.models import VLM
from pruning.models.values import Encoded
from tests.helpers.clips import moving

SIZES = ([(150, 90)], [(70, 100), (64, 40)], [(64, 64)])
NEEDS = frozenset({"vision_attention@-1", "vision_keys@-1", "vision_values@-1", "pre_projector", "patch_entropy"})


def same(one: Encoded, other: Encoded) -> None:
    """But for the seconds."""
    assert one.tokens.grids == other.tokens.grids
    assert (one.sizes, one.texts, one.kinds, one.stacked) == (other.sizes, other.texts, other.kinds, other.stacked)
    assert (one.patches, one.strangeness) == (other.patches, pytest.approx(other.strangeness))
    np.testing.assert_array_equal(one.rects, other.rects)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(one.tokens.features, other.tokens.features, **close)
    assert one.tokens.signals.keys() == other.tokens.signals.keys()
    for name, value in one.tokens.signals.items():
        torch.testing.assert_close(value, other.tokens.signals[name], **close)
    torch.testing.assert_close(one.deepstack, other.deepstack, **close)
    assert one.side.keys() == other.side.keys()
    assert all(torch.equal(value, other.side[name]) for name, value in one.side.items())
    for mine, theirs in ((one.places, other.places), (one.marks, other.marks)):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.allclose(mine, theirs, atol=1e-5)


def test_each_sample_is_as_it_is_alone(any_vlm: VLM, pictures) -> None:
    samples = [pictures(sizes) for sizes in SIZES]
    needs = NEEDS & any_vlm.signals
    found = any_vlm.encode_batch(samples, needs)
    for images, one in zip(samples, found, strict=True):
        alone = any_vlm.encode(images, needs)
        same(one, alone)
        assert (
            any_vlm.answer(one, "what is this", max_new_tokens=4).ids
            == any_vlm.answer(alone, "what is this", max_new_tokens=4).ids
        )


@pytest.mark.parametrize("family", ["qwen2-vl", "qwen2.5-vl", "qwen3-vl"])
def test_a_packed_tower_runs_once_and_nothing_of_the_others_is_held(tiny, family, pictures, monkeypatch) -> None:
    vlm, passes = tiny(family), []
    features = vlm.family.features
    monkeypatch.setattr(vlm.family, "features", lambda pixels: passes.append(1) or features(pixels))
    samples = [pictures(sizes) for sizes in SIZES]
    found = vlm.encode_batch(samples)
    assert len(passes) == 1
    for images, one in zip(samples, found, strict=True):
        assert one.tokens.n == vlm.expected_tokens(images)
        assert one.tokens.features.untyped_storage().nbytes() == one.tokens.features.numel() * 4
    total = sum(one.encode_s for one in found)
    shares = [one.encode_s / total for one in found]
    tokens = sum(one.tokens.n for one in found)
    assert shares == pytest.approx([one.tokens.n / tokens for one in found])


def test_maps_functions_and_clips_are_encoded_by_themselves(tiny_vlm: VLM, pictures) -> None:
    images = pictures([(64, 64)])
    assert tiny_vlm.encodes_together(images, NEEDS)
    assert not tiny_vlm.encodes_together(images, frozenset({"vision_attention_map@-1"}))
    assert not tiny_vlm.encodes_together(images, frozenset({"projector"}))
    assert not tiny_vlm.encodes_together([moving(4)], frozenset())
    assert not tiny_vlm.encodes_together([], frozenset())
    with pytest.raises(ValueError, match="at least one image"):
        tiny_vlm.encode_batch([images, []])
    alone = tiny_vlm.encode(images, frozenset({"vision_attention_map@-1"}))
    for one in tiny_vlm.encode_batch([images, images], frozenset({"vision_attention_map@-1"})):
        same(one, alone)
