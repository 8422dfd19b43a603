"""Other encodings of the same pictures: the sizes that families reach, against pictures that were resized by hand."""

import math

import pytest
import torch
from PIL import Image

from pruning.encoding import RESOLUTION, Encoding, OutOfReachError
from pruning.models import VLM, ConversationCache, Sample, Turn
from tests.helpers import library

QUESTION, OTHER = "What color is the star?", "how many red"
SIZES = [[(300, 90)], [(224, 224)], [(61, 333)], [(150, 90), (70, 200)]]


@pytest.fixture
def endless(any_vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> VLM:
    monkeypatch.setattr(any_vlm.model.generation_config, "eos_token_id", -1)
    return any_vlm


def side(vlm: VLM) -> int:
    """Pixels across a token of the Qwen families."""
    return vlm.config.vision_config.patch_size * vlm.config.vision_config.spatial_merge_size


def as_given(processor) -> dict[str, int]:
    """Limits that leave a picture of few tokens as it is."""
    return {"shortest_edge": 1, "longest_edge": processor.size["longest_edge"]}


def by_hand(vlm: VLM, picture: Image.Image, most: int) -> Image.Image:
    """The picture at the largest size of whole cells that gives at most so many, by trying scale after scale."""
    cell = side(vlm)
    best = (1, 1)
    for step in range(1, 4000):
        scale = step / 4000
        size = tuple(max(1, math.floor(length * scale / cell)) for length in picture.size)
        if math.prod(best) < math.prod(size) <= most:
            best = size
    return picture.resize((best[0] * cell, best[1] * cell), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("most", [1, 2, 7, 12, 20, 31])
@pytest.mark.parametrize("size", [(300, 200), (90, 400), (224, 224)])
def test_lower_resolution_is_the_picture_resized_by_hand(qwen_vlm, noise, monkeypatch, size, most) -> None:
    processor = qwen_vlm.image_processor
    picture = noise(*size)
    coarse = qwen_vlm.encode([picture], asked=Encoding(most))
    small = by_hand(qwen_vlm, picture, most)
    monkeypatch.setattr(processor, "size", as_given(processor))
    hand = qwen_vlm.encode([small])
    assert coarse.tokens.n == hand.tokens.n <= most
    assert [(g.gh, g.gw) for g in coarse.tokens.grids] == [(g.gh, g.gw) for g in hand.tokens.grids]
    assert torch.equal(coarse.tokens.features, hand.tokens.features)
    assert coarse.patches == 4 * coarse.tokens.n
    full = qwen_vlm.encode([picture])
    ids = qwen_vlm.answer(full, QUESTION, coarse, max_new_tokens=6).ids
    assert list(ids) == library.generate(qwen_vlm, [small], QUESTION, 6)


def test_cells_lie_on_the_picture_as_it_was_given(qwen_vlm, noise) -> None:
    coarse = qwen_vlm.encode([noise(300, 200)], asked=Encoding(6))
    (grid,) = coarse.tokens.grids
    assert coarse.sizes == ((300, 200),)
    assert coarse.rects[0].tolist() == pytest.approx([0, 0, 300 / grid.gw, 200 / grid.gh])
    assert coarse.rects[-1].tolist()[2:] == [300, 200]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_reaches_the_most_tokens_up_to_what_is_asked(any_vlm, noise, sizes) -> None:
    images = [noise(*size, seed=i) for i, size in enumerate(sizes)]
    full = any_vlm.encode(images)
    if not any_vlm.family.scales:
        assert RESOLUTION not in any_vlm.encodings
        with pytest.raises(OutOfReachError, match="no option that makes fewer"):
            any_vlm.encode(images, asked=Encoding(full.tokens.n))
        return
    assert RESOLUTION in any_vlm.encodings
    most = any_vlm.max_visual_tokens
    reached = {sum(any_vlm.family.count(i.size, len(images), limit / 4) for i in images) for limit in range(1, 4 * 600)}
    reached.add(full.tokens.n)
    assert max(reached) <= max(full.tokens.n, most * len(images))
    for budget in sorted({min(reached), *(round(full.tokens.n * share) for share in (0.3, 0.5, 0.9, 1))}):
        if budget < min(reached):
            continue
        coarse = any_vlm.encode(images, asked=Encoding(budget))
        assert coarse.tokens.n == max(n for n in reached if n <= budget)
        assert coarse.sizes == full.sizes
        assert coarse.patches <= full.patches
    if min(reached) > 1:
        with pytest.raises(OutOfReachError, match=f"makes {min(reached)} visual tokens"):
            any_vlm.encode(images, asked=Encoding(min(reached) - 1))


def test_every_family_says_whether_it_scales(any_vlm) -> None:
    assert any_vlm.family.scales == (any_vlm.config.model_type.replace("_", "-") in {
        "qwen2-5-vl", "qwen2-vl", "qwen3-vl", "qwen3-vl-moe", "internvl", "idefics3", "smolvlm", "llava-next",
        "llava-next-video",
        "llava-onevision",
    })  # fmt: skip


def test_all_tokens_are_the_picture_as_it_is(any_vlm, noise) -> None:
    full = any_vlm.encode([noise(150, 90)])
    if any_vlm.family.scales:
        again = any_vlm.encode([noise(150, 90)], asked=Encoding(full.tokens.n))
        assert torch.equal(again.tokens.features, full.tokens.features)


def test_a_strip_comes_down_to_one_token(qwen_vlm, noise) -> None:
    strip = noise(4000, 20)
    assert qwen_vlm.encode([strip]).tokens.n > 50
    assert [qwen_vlm.encode([strip], asked=Encoding(most)).tokens.n for most in (1, 2, 20)] == [1, 2, 20]
    with pytest.raises(ValueError, match="Crop or pad it"):
        qwen_vlm.encode([noise(4000, 1)], asked=Encoding(1))


def test_pictures_share_one_limit(qwen_vlm, noise) -> None:
    """The largest shrinks first; each has a token at the least."""
    images = [noise(300, 300), noise(56, 56, seed=1)]
    large, small = (grid.count for grid in qwen_vlm.encode(images).tokens.grids)
    assert large > 10 * small
    half = qwen_vlm.encode(images, asked=Encoding((large + small) // 2))
    assert [grid.count for grid in half.tokens.grids] == [half.tokens.n - small, small]
    assert qwen_vlm.encode(images, asked=Encoding(2)).tokens.n == 2
    with pytest.raises(OutOfReachError, match=r"makes 2 visual tokens of these pictures at the least, and 1 are asked"):
        qwen_vlm.encode(images, asked=Encoding(1))


def test_a_second_turn_is_about_the_same_encoding(qwen_vlm, noise, monkeypatch) -> None:
    monkeypatch.setattr(qwen_vlm.model.generation_config, "eos_token_id", -1)
    full, memory = qwen_vlm.encode([noise(300, 200)]), ConversationCache()
    coarse = qwen_vlm.encode([noise(300, 200)], asked=Encoding(12))
    first = qwen_vlm.answer(full, QUESTION, coarse, memory=memory, max_new_tokens=4)
    history = [Turn(QUESTION, first.text)]
    held = len(memory)
    second = qwen_vlm.answer(full, OTHER, coarse, history=history, memory=memory, max_new_tokens=6)
    assert len(memory) > held
    small = by_hand(qwen_vlm, noise(300, 200), 12)
    monkeypatch.setattr(qwen_vlm.image_processor, "size", as_given(qwen_vlm.image_processor))
    assert list(second.ids) == library.generate(qwen_vlm, [small], OTHER, 6, history)
    alone = qwen_vlm.answer(coarse, OTHER, history=history, max_new_tokens=6)
    assert second.ids == alone.ids
    everything = qwen_vlm.answer(full, OTHER, history=history, memory=memory, max_new_tokens=6)
    assert everything.ids == qwen_vlm.answer(full, OTHER, history=history, max_new_tokens=6).ids


def test_log_probabilities_of_encodings_and_selections_together(endless, noise) -> None:
    full = endless.encode([noise(300, 200)])
    if not endless.family.scales:
        return
    fewest = endless.family.count((300, 200), 1, 1)
    coarse = endless.encode([noise(300, 200)], asked=Encoding(max(fewest, full.tokens.n // 2)))
    kept = torch.arange(coarse.tokens.n)
    ids = endless.answer(full, QUESTION, coarse, max_new_tokens=4).ids
    assert ids == endless.answer(coarse, QUESTION, max_new_tokens=4).ids
    assert (
        ids == endless.answer_batch([Sample(full, QUESTION), Sample(full, QUESTION, coarse)], max_new_tokens=4)[1].ids
    )
    together = endless.logprobs(full, QUESTION, ids, [None, coarse, kept, coarse])
    alone = [endless.logprobs(on, QUESTION, ids, [k])[0] for on, k in [(full, None), (coarse, None), (full, kept)]]
    for found, expected in zip(together, [*alone, alone[1]], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert together[1].argmax(-1).tolist() == list(ids)


def test_an_encoding_of_other_pictures_is_refused(tiny_vlm, noise) -> None:
    full, other = tiny_vlm.encode([noise(112, 112)]), tiny_vlm.encode([noise(112, 56)])
    with pytest.raises(ValueError, match="pictures of 112×56 pixels, not of 112×112: encode the same pictures"):
        tiny_vlm.answer(full, QUESTION, other)
    with pytest.raises(ValueError, match="encode the same pictures"):
        tiny_vlm.logprobs(full, QUESTION, [5], [other])
