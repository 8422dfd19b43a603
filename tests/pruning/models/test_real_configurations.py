"""Checkpoints with the files of released ones, narrow layers aside, load and answer as the library does."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from pruning.models import ModelError, load
from pruning.models.checkpoint.presets import known
from tests.checkpoints import tiny_llava
from tests.checkpoints.real import RELEASED, SIZED
from tests.checkpoints.real_others import LFM2_VL, LFM2_VL_FIRST, OTHERS
from tests.checkpoints.reducing import Released, save
from tests.checkpoints.support import PROOFS

EVERY = {**RELEASED, **OTHERS}
TURNS = {"QWEN3_5", "MINICPM_V_4_6", "GLM_OCR", "LLAVA", "PADDLEOCR_VL", "DEEPSEEK_VL", "AYA_VISION"}
"""Whose templates write an answer otherwise once it has been given, or put pictures before all words."""

TILED = {"SMOLVLM2", "IDEFICS3", "INTERNVL3_5"}
"""Whose pictures become a thousand tokens: a quarter of them is proven on tiles of fewer."""

UNPLACED = {"MINICPM_V_4_6"}  # whose tokens have seen the whole picture

UNTIED = {f"OpenGVLab/InternVL3_5-{size}B-HF" for size in (1, 2, 4, 8)}
"""Whose files hold embeddings twice, which their settings do not say."""


@pytest.mark.parametrize("name", EVERY)
def test_all_tokens_answer_as_the_library_and_a_quarter_as_a_plain_pass(name: str, tmp_path: Path, noise) -> None:
    released = EVERY[name]
    model = load(save(released, tmp_path / "model"))
    tokens = model.encode([noise(150, 90)]).tokens
    assert (tokens.n, all(grid.placed for grid in tokens.grids)) == (released.tokens, name not in UNPLACED)
    proofs = ("all tokens", *(("a quarter",) if name not in TILED else ()), *(("two turns",) if name in TURNS else ()))
    assert [proof for proof in proofs if not PROOFS[proof](model)] == []


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="its pictures can be opened where torchvision is")
def test_lfm2_vl_says_what_its_pictures_need(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Lfm2VlImageProcessor requires the Torchvision library.*pip install torch=="):
        load(save(LFM2_VL, tmp_path / "model"))


@pytest.mark.parametrize("code", [True, False], ids=["code of its own", "none"])
def test_a_type_that_the_library_spells_otherwise_is_named_by_both_spellings(code: bool, tmp_path: Path) -> None:
    """LFM2-VL's first files, and copies of them without the code."""
    config = {name: value for name, value in LFM2_VL_FIRST.items() if code or name != "auto_map"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"type lfm2-vl, .* knows as lfm2_vl: .* newer revision"):
        load(tmp_path)


def test_glm_ocr_cuts_a_picture_as_its_own_processor_was_seen_to(tmp_path: Path, noise) -> None:
    """townsendmerino/goinfer multimodal/glm_ocr_test.go: 100 × 100 pixels become 8 × 8 patches, 2 × 2 to a token."""
    model = load(save(RELEASED["GLM_OCR"], tmp_path / "model"))
    (grid,) = model.encode([noise(100, 100)]).tokens.grids
    assert (grid.gh, grid.gw) == (4, 4)


@pytest.mark.parametrize("lost", ["patch_size", "vision_feature_select_strategy", "num_additional_image_tokens", "all"])
def test_what_a_processor_of_the_first_years_does_not_say_is_in_the_model_s_settings(
    lost: str, tmp_path: Path, noise
) -> None:
    folder = tiny_llava(tmp_path / "model")
    file = folder / "processor_config.json"
    told = json.loads(file.read_text())
    file.unlink() if lost == "all" else file.write_text(json.dumps({k: v for k, v in told.items() if k != lost}))
    model = load(folder)
    processor = model.family.processing.processor
    for name in ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"):
        assert getattr(processor, name) == told[name]
    assert PROOFS["all tokens"](model)


def test_what_a_processor_says_stays(tmp_path: Path) -> None:
    folder = tiny_llava(tmp_path / "model")
    file = folder / "processor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_additional_image_tokens": 0}))
    assert load(folder).family.processing.processor.num_additional_image_tokens == 0


@pytest.mark.parametrize(
    "released", [each for each in (*EVERY.values(), *SIZED) if known(each.model)], ids=lambda each: each.model
)
def test_a_preset_has_the_sizes_of_its_configuration(released: Released, tmp_path: Path) -> None:
    """Counted on a model without memory."""
    preset = known(released.model)
    assert preset is not None
    (tmp_path / "config.json").write_text(json.dumps(released.config))
    config = AutoConfig.from_pretrained(tmp_path)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    words = {
        id(weight): weight.numel()
        for name, weight in model.named_parameters()
        if "embed_tokens" in name or "head" in name
    }
    twice = released.model in UNTIED
    total = sum(weight.numel() for weight in model.parameters()) + twice * sum(words.values())
    assert preset.parameters == pytest.approx(total, rel=0.01)
    assert preset.embeddings == pytest.approx(sum(words.values()) * (1 + twice), rel=0.03)
    assert preset.family == released.config["model_type"]
    text = config.get_text_config()
    assert (preset.shape.layers, preset.shape.hidden) == (text.num_hidden_layers, text.hidden_size)
    if released.config["model_type"] != "gemma4":  # whose later layers are wider than the first
        assert preset.shape.mlp == text.intermediate_size
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        assert preset.shape.kv_width == text.num_key_value_heads * size
    assert preset.shape.vision_hidden == config.vision_config.hidden_size
