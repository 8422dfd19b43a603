"""The preset list: unique, supported, in the promised order, and with sizes that hang together."""

import pytest

from pruning.models import SHIPPED
from pruning.models.checkpoint import memory
from pruning.models.checkpoint.hub import is_id
from pruning.models.checkpoint.presets import PRESETS, Preset, best_that_fits
from pruning.models.families import family_of

HUB = PRESETS[1:]
ids = [preset.model_id for preset in PRESETS]


def test_the_shipped_model_comes_first_with_its_true_size() -> None:
    first = PRESETS[0]
    assert first.model_id == str(SHIPPED)
    exact = memory.estimate(SHIPPED, "float32")
    assert exact is not None
    assert first.need("float32").total == pytest.approx(exact.total, rel=0.02)


def test_ids_and_titles_are_unique_and_can_be_loaded_by_name() -> None:
    assert len(set(ids)) == len({preset.title for preset in PRESETS}) == len(PRESETS)
    assert all(is_id(preset.model_id) for preset in HUB)


@pytest.mark.parametrize("kind", sorted({preset.family for preset in PRESETS}))
def test_every_family_is_supported(kind: str) -> None:
    from transformers import AutoConfig

    assert family_of(AutoConfig.for_model(kind, vision_config={}))


def test_every_family_asked_for_is_there() -> None:
    expected = {"qwen2_5_vl", "qwen3_vl", "qwen3_5", "llava", "llava_next", "llava_onevision", "internvl", "smolvlm",
                "minicpmv4_6", "glm_ocr", "glm4v", "gemma3", "gemma4"}  # fmt: skip
    assert {preset.family for preset in PRESETS} == expected


def language_parameters(preset: Preset) -> int:
    """Projections and a gated MLP per layer, with queries as wide as the model; norms and biases left out."""
    s = preset.shape
    return s.layers * (2 * s.hidden * s.hidden + 2 * s.hidden * s.kv_width + 3 * s.hidden * s.mlp)


@pytest.mark.parametrize("preset", HUB, ids=ids[1:])
def test_parameters_embeddings_and_shape_hang_together(preset: Preset) -> None:
    tower = preset.parameters - preset.embeddings - language_parameters(preset)
    assert 0.08e9 < tower < 1.1e9  # the towers have 0.09 to 0.7 billion; some queries are wider than the model
    vocabulary = preset.embeddings / preset.shape.hidden
    layers = preset.shape.layers * 256 / preset.shape.hidden if preset.family == "gemma4" else 0  # each has its own
    assert 30_000 < vocabulary / (1 + layers) < 310_000  # once where embeddings and head are tied, else twice


@pytest.mark.parametrize("preset", HUB, ids=ids[1:])
def test_the_name_says_the_size(preset: Preset) -> None:
    """ "7B" and the like count the language model, some of them rounded down."""
    words = [w.lower() for w in preset.title.replace("_", "-").split("-") if w[:1].isdigit() and w[-1:] in "bBM"]
    if words:
        scale = {"b": 1e9, "m": 1e6}[words[0][-1]]
        assert preset.parameters == pytest.approx(float(words[0][:-1]) * scale, rel=0.8)


def test_needs_fall_with_width_and_bits() -> None:
    for preset in HUB:
        needs = [preset.need("float32"), preset.need("bfloat16"), preset.need("bfloat16", "8bit"),
                 preset.need("bfloat16", "4bit")]  # fmt: skip
        assert [n.total for n in needs] == sorted((n.total for n in needs), reverse=True)
    with pytest.raises(ValueError, match="unknown quantization '2bit'"):
        PRESETS[0].need(quantization="2bit")


def test_the_best_that_fits() -> None:
    sizes = {preset.model_id: preset.parameters for preset in PRESETS}
    best = best_that_fits(lambda preset: True)
    assert best is not None
    assert sizes[best.model_id] == max(sizes[p.model_id] for p in PRESETS if not p.gated)
    assert best_that_fits(lambda preset: preset.model_id != best.model_id) not in (None, best)
    on_a_processor = best_that_fits(lambda preset: True, "cpu")
    assert on_a_processor is not None
    assert on_a_processor.title == "SmolVLM2-256M-Video-Instruct"
    assert best_that_fits(lambda preset: preset.gated) is None
    assert best_that_fits(lambda preset: preset is PRESETS[0]) is None  # it reads no photographs
    assert best_that_fits(lambda preset: False) is None


def test_what_a_preset_takes_to_download() -> None:
    sizes = {preset.title: preset.download for preset in PRESETS}
    # As the hub listed their weights.
    assert sizes["SmolVLM2-256M-Video-Instruct"] == pytest.approx(1.03e9, rel=0.02)
    assert sizes["SmolVLM2-2.2B-Instruct"] == pytest.approx(8.99e9, rel=0.02)
    assert PRESETS[0].download == 0
    assert min(size for title, size in sizes.items() if title != PRESETS[0].title) > 5e8


def test_gated_and_restricted_ones_say_so() -> None:
    terms = {preset.model_id: preset.terms for preset in PRESETS}
    assert "accept them on the hub" in terms["google/gemma-3-4b-it"]
    assert "hf auth login" in terms["google/gemma-3-4b-it"]
    assert [preset.model_id for preset in PRESETS if preset.gated] == ["google/gemma-3-4b-it"]
    assert "not for commercial use" in terms["Qwen/Qwen2.5-VL-3B-Instruct"]
    assert not terms["Qwen/Qwen2.5-VL-7B-Instruct"]
    assert all(preset.licence for preset in PRESETS)


def test_the_page_of_models_lists_them_with_where_their_sizes_are_from() -> None:
    from tests.checkpoints import support

    page = support.PAGE.read_text("utf-8")
    assert support.presets() in page
    assert all(preset.source for preset in HUB)
