"""Encoding, geometry, prompts and signals."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pruning.grids import Grid
from pruning.models import ModelError, Turn, load
from pruning.models.families.geometry import token_rects
from pruning.models.language.prompting import content_token_ids

ATTENTION = "vision_attention@-1"


# Images and geometry


@pytest.mark.parametrize("size", [(300, 200), (56, 500), (1, 1), (1, 199), (640, 480), (28, 28)])
def test_rectangles_tile_the_given_image(qwen_vlm, noise, size: tuple[int, int]) -> None:
    encoded = qwen_vlm.encode([noise(*size)])
    (grid,), rects = encoded.tokens.grids, encoded.rects
    assert encoded.sizes == (size,)
    assert rects.shape == (encoded.tokens.n, 4) == (grid.gh * grid.gw, 4)
    assert encoded.tokens.n <= 64
    assert (rects[:, :2].min(0) == 0).all()
    np.testing.assert_allclose(rects[:, 2:].max(0), size)
    areas = (rects[:, 2] - rects[:, 0]) * (rects[:, 3] - rects[:, 1])
    np.testing.assert_allclose(areas, areas[0], rtol=1e-4)
    np.testing.assert_allclose(areas.sum(), size[0] * size[1], rtol=1e-4)
    assert len(np.unique(rects[:, :2], axis=0)) == len(rects)
    if grid.gw > 1:
        assert rects[1][0] > rects[0][0]  # raster order: the second token lies right of the first
        assert rects[1][1] == rects[0][1]


def test_several_images_follow_each_other(qwen_vlm, noise) -> None:
    images = [noise(90, 60), noise(60, 150, seed=1)]
    both = qwen_vlm.encode(images, frozenset({ATTENTION}))
    start = 0
    for image, grid in zip(images, both.tokens.grids, strict=True):
        alone = qwen_vlm.encode([image], frozenset({ATTENTION}))
        part = slice(start, start + alone.tokens.n)
        assert grid.start == start
        torch.testing.assert_close(both.tokens.features[part], alone.tokens.features, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(both.tokens.signal(ATTENTION)[part], alone.tokens.signal(ATTENTION))
        np.testing.assert_array_equal(both.rects[part], alone.rects)
        start += alone.tokens.n
    assert both.tokens.n == start


def test_encode_refuses_what_it_cannot_do(any_vlm, noise) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        any_vlm.encode([])
    with pytest.raises(ValueError, match=r"1×4000.*Crop or pad"):
        any_vlm.encode([Image.new("RGB", (1, 4000))])
    with pytest.raises(ValueError, match="'x-ray'"):
        any_vlm.encode([noise(60, 60)], frozenset({"x-ray"}))


def test_large_images_stay_below_the_limit(tiny_folder: Path, noise) -> None:
    vlm = load(tiny_folder, max_visual_tokens=12)
    assert vlm.encode([noise(400, 300)]).tokens.n <= 12


def test_size_in_bytes_counts_all_that_is_held(tiny_vlm, noise) -> None:
    encoded = tiny_vlm.encode([noise(112, 84)], frozenset({ATTENTION}))
    n = encoded.tokens.n
    assert encoded.nbytes == n * (48 + 1 + 4 + n) * 4  # the similarity too, before it is computed
    assert encoded.tokens.similarity.shape == (n, n)
    assert encoded.nbytes == n * (48 + 1 + 4 + n) * 4


def test_token_rects_by_hand() -> None:
    expected = [[0, 0, 5, 10], [5, 0, 10, 10], [0, 10, 5, 20], [5, 10, 10, 20]]
    np.testing.assert_array_equal(token_rects([Grid(1, 2, 2)], [(10, 20)]), expected)


# Signals


def test_attention_in_parts_is_the_same(any_vlm, noise, monkeypatch) -> None:
    whole = any_vlm.encode([noise(252, 168)], frozenset({ATTENTION})).tokens.signal(ATTENTION)
    monkeypatch.setattr("pruning.models.signals.attention.CHUNK_ELEMENTS", 1000)
    parts = any_vlm.encode([noise(252, 168)], frozenset({ATTENTION})).tokens.signal(ATTENTION)
    torch.testing.assert_close(parts, whole)


def hooks(model) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def test_capture_leaves_nothing_behind_and_changes_nothing(any_vlm, noise, monkeypatch) -> None:
    plain = any_vlm.encode([noise(90, 60)])
    before = hooks(any_vlm.model)  # the library sets some of its own, once
    assert not plain.tokens.signals
    captured = any_vlm.encode([noise(90, 60)], frozenset({ATTENTION, "vision_attention@0"}))
    torch.testing.assert_close(captured.tokens.features, plain.tokens.features, rtol=0, atol=0)
    assert hooks(any_vlm.model) == before

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("tower broke")

    with monkeypatch.context() as patch:
        patch.setattr(any_vlm.model.model, "get_image_features", broken)
        with pytest.raises(RuntimeError, match="tower broke"):
            any_vlm.encode([noise(90, 60)], frozenset({ATTENTION}))
    assert hooks(any_vlm.model) == before
    again = any_vlm.encode([noise(90, 60)])
    torch.testing.assert_close(again.tokens.features, plain.tokens.features, rtol=0, atol=0)


def test_signals_come_when_asked_for(any_vlm, noise) -> None:
    encoded = any_vlm.encode([noise(90, 60)])
    tokens = any_vlm.tokens(encoded, "What color is the star?", frozenset({"question"}))
    ids = torch.tensor(any_vlm.tokenizer.convert_tokens_to_ids(["color", "star"]))
    torch.testing.assert_close(tokens.signal("question"), any_vlm.model.get_input_embeddings()(ids))
    assert not encoded.tokens.signals
    with pytest.raises(ValueError, match="encode the image again"):
        any_vlm.tokens(encoded, "what", frozenset({ATTENTION}))


def test_question_words(tiny_vlm) -> None:
    def words(question: str) -> list[str]:
        ids = content_token_ids(tiny_vlm.tokenizer, question)
        return list(tiny_vlm.tokenizer.convert_ids_to_tokens(ids))

    assert words("Is there a red circle left of the ring?") == ["red", "circle", "left", "ring"]
    assert words("what is it?") == ["what", "is", "it", "?"]  # nothing but function words: all of them
    assert words("星 star") == ["star"]


# Numbers that are no numbers


@pytest.mark.parametrize(
    ("dtype", "remedy"), [("float32", "damaged, download"), ("float16", "load it with dtype bfloat16 or float32")]
)
def test_a_tower_that_gives_no_numbers_is_refused_with_what_helps(tiny_folder, noise, dtype: str, remedy: str) -> None:
    vlm = load(tiny_folder, dtype=dtype)
    vlm.model.model.visual.merger.mlp[0].bias.data[3] = torch.nan
    with pytest.raises(ModelError, match=rf"vision tower of {vlm.title} .* dtype {dtype}: .*{remedy}") as said:
        vlm.encode([noise(60, 60)])
    assert (dtype == "float32") == ("load it with" not in str(said.value))


def test_levels_and_signals_beside_the_features_are_looked_at_too(tiny, noise, monkeypatch) -> None:
    from pruning.models.signals import tower as tower_signals

    plain = tower_signals.run
    for family, needs, spoil in (
        ("qwen3-vl", frozenset[str](), lambda rows, signals: rows.deepstack[1]),
        ("llava", frozenset({ATTENTION}), lambda rows, signals: signals[ATTENTION]),
    ):

        def run(*values, spoil=spoil):
            rows, signals = plain(*values)
            spoil(rows, signals)[0] = torch.inf
            return rows, signals

        monkeypatch.setattr(tower_signals, "run", run)
        with pytest.raises(ModelError, match="vision tower"):
            tiny(family).encode([noise(60, 60)], needs)


def test_scores_and_embeddings_that_are_no_numbers_are_refused(tiny_folder, noise) -> None:
    vlm = load(tiny_folder)
    encoded = vlm.encode([noise(60, 60)])
    vlm.scorer.q_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"importance scorer .*choose another importance source"):
        vlm.tokens(encoded, "", frozenset({"scorer"}))
    vlm.model.get_input_embeddings().weight.data = vlm.model.get_input_embeddings().weight.data * torch.nan
    with pytest.raises(ModelError, match="word embeddings"):
        vlm.tokens(encoded, "what color", frozenset({"question"}))


# Tokens without an embedding


@pytest.fixture
def wordy(tiny_folder: Path, tmp_path: Path):
    """The tiny model with two tokens more in its tokenizer than it has embeddings."""
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(tiny_folder, tmp_path / "wordy"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|extra|>", "zebra"])
    tokenizer.save_pretrained(folder)
    return load(folder)


def test_words_without_an_embedding_are_named_with_both_counts(wordy, tiny_vlm, noise) -> None:
    encoded, size = wordy.encode([noise(60, 60)]), len(wordy.model.get_input_embeddings().weight)
    assert wordy.answer(encoded, "what color", max_new_tokens=4).ids  # harmless until one is used
    said = rf"'zebra', token number {size + 1}, .*has {size + 2} tokens and the model {size} embeddings"
    for ask in (
        lambda: wordy.prompt(encoded, "what color zebra"),
        lambda: wordy.prompt(encoded, "what", [Turn("what", "a zebra")]),
        lambda: wordy.tokens(encoded, "what color zebra", frozenset({"question"})),
    ):
        with pytest.raises(ValueError, match=said):
            ask()
    for ids in ([3, size], [-1], [None], [True]):
        with pytest.raises(ValueError, match=rf"answer token .* from 0 to {size - 1}"):
            wordy.logprobs(encoded, "what", ids, [None])


def test_a_tokenizer_that_takes_image_tokens_apart_is_told(tiny_vlm, noise, monkeypatch) -> None:
    encoded = tiny_vlm.encode([noise(60, 60)])
    monkeypatch.setattr(tiny_vlm.family, "placeholders", (3,))
    with pytest.raises(ModelError, match=f"1 image tokens of {encoded.tokens.n}"):
        tiny_vlm.prompt(encoded, "how many")


# Prompts


def test_prompt_has_one_placeholder_per_token_and_the_library_s_positions(qwen_vlm, noise) -> None:
    encoded = qwen_vlm.encode([noise(90, 60), noise(60, 150)])
    prompt = qwen_vlm.prompt(encoded, "  What color is the star? ")
    assert len(prompt.visual) == encoded.tokens.n
    assert prompt.n == encoded.tokens.n + 15
    assert prompt.positions.shape == (3, 1, prompt.n)
    words = torch.ones(prompt.n, dtype=torch.bool).index_fill(0, prompt.visual, False)
    text = qwen_vlm.tokenizer.decode(prompt.input_ids[0][words])
    assert text.count("<|vision_start|>") == 2
    assert "what color is the star" in text
    kept = torch.tensor([1, 4])
    pruned = prompt.keep(kept)
    assert pruned.n == prompt.n - encoded.tokens.n + 2
    torch.testing.assert_close(pruned.positions[:, :, pruned.visual], prompt.positions[:, :, prompt.visual][..., kept])
    still = torch.ones(pruned.n, dtype=torch.bool).index_fill(0, pruned.visual, False)
    torch.testing.assert_close(pruned.positions[:, :, still], prompt.positions[:, :, words])


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("a <|image_pad|> b", "control token"),
        ("star " * 10_000, "Shorten the question"),
        ("what \ud83d color", r"half a character \('\\ud83d', a lone surrogate\) at place 6: type the whole"),
        ("caf\udce9", "the byte 0xE9, which is no UTF-8, at place 4: send it as UTF-8"),
    ],
    ids=["empty", "blank", "injected", "long", "half", "byte"],
)
def test_questions_that_cannot_be_asked(tiny_vlm, noise, question: str, reason: str) -> None:
    encoded = tiny_vlm.encode([noise(60, 60)])
    with pytest.raises(ValueError, match=reason):
        tiny_vlm.generate(encoded, question)


def test_half_characters_are_told_wherever_a_text_goes_in(tiny_vlm, noise) -> None:
    encoded, half = tiny_vlm.encode([noise(60, 60)]), "what \ud83d color"
    for turn in (Turn(half, "red"), Turn("what", half)):
        with pytest.raises(ValueError, match="half a character"):
            tiny_vlm.prompt(encoded, "how many", [turn])
    with pytest.raises(ValueError, match="half a character"):
        tiny_vlm.tokens(encoded, half, frozenset({"question"}))


def test_other_scripts_can_be_asked(tiny_vlm, noise) -> None:
    assert tiny_vlm.answer(tiny_vlm.encode([noise(60, 60)]), "какого цвета звезда? 🌟", max_new_tokens=1).ids
