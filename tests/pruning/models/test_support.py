"""The table of models says what is measured: a sample of its rows is measured again."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from pruning.models import ModelError, load
from pruning.models.checkpoint import sources
from tests.checkpoints import kinds, support

MEASURED = (
    "deepseek_ocr2",
    "ernie4_5_vl_moe",
    "glm_ocr",
    "granite4_vision",
    "granite_docling",
    "hunyuan_vl",
    "minicpmv4_7",
    "ovis2",
    "qwen3_omni_moe",
    "video_llama_3",
    "video_llava",
)
OURS = ("a trial with", "crash", "Error")  # what a refusal says that is not the family's doing


@pytest.fixture(scope="module")
def page() -> str:
    text = support.PAGE.read_text("utf-8")
    return text[text.index(support.BEGIN) : text.index(support.END)]


def test_every_type_that_is_built_stands_in_the_table(page: str) -> None:
    told = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(told) == sorted(support.BUILDERS)
    assert sum("| works |" in line for line in page.splitlines()) >= 40


@pytest.mark.parametrize("kind", MEASURED)
def test_a_row_is_what_is_measured(page: str, kind: str) -> None:
    row = support.measured(kind)
    assert not row.refused
    assert not row.fails
    assert "| " + " | ".join(row.cells) + " |" in page


@pytest.mark.parametrize("kind", sorted(kinds.BARE))
def test_a_refusal_is_what_loading_says(page: str, kind: str) -> None:
    if find_spec("torchvision") is not None or find_spec("timm") is not None:
        pytest.skip("a package that some of them are refused for is installed")
    row = support.measured(kind)
    assert row.refused
    assert not any(word in row.refused for word in OURS)
    assert f"| `{kind}` | {row.refused} |" in page


def test_what_does_not_hold_stands_in_the_row(monkeypatch) -> None:
    monkeypatch.setitem(support.PROOFS, "batches", lambda _vlm: False)
    monkeypatch.setitem(support.PROOFS, "two turns", lambda vlm: vlm.absent)
    row = support.measured("deepseek_vl")
    assert row.fails == ("two turns", "batches")
    assert row.cells[1] == "works but for two turns, batches"
    assert replace(row, fails=()).cells[1] == "works"


def test_of_a_model_that_also_speaks_the_part_that_sees_is_opened(tmp_path: Path) -> None:
    folder = kinds.tiny("qwen2_5_omni", tmp_path / "whole")
    assert AutoConfig.from_pretrained(folder).model_type == "qwen2_5_omni"
    assert sources.config(folder).model_type == "qwen2_5_omni_thinker"
    assert type(load(folder).model).__name__ == "Qwen2_5OmniThinkerForConditionalGeneration"


def test_rows_that_are_no_token_stay(tmp_path: Path, noise) -> None:
    """HunYuan-VL ends every row of tokens with one more, and has one before and behind them all."""
    model = load(kinds.tiny("hunyuan_vl", tmp_path / "model"))
    encoded = model.encode([noise(150, 90)])
    (grid,) = encoded.tokens.grids
    assert encoded.rows_count == grid.gh * (grid.gw + 1) + 2
    rows = encoded.rows(torch.tensor([0]))
    assert len(rows.features) == 1 + grid.gh + 2
    torch.testing.assert_close(rows.features[1], encoded.tokens.features[0])


def test_experts_of_pictures_are_told_what_stands_around_them(tmp_path: Path, noise) -> None:
    model = load(kinds.tiny("ernie4_5_vl_moe", tmp_path / "model"))
    config = model.config
    assert model.family.marked == (
        config.image_token_id,
        config.image_start_token_id,
        config.image_end_token_id,
    )
    given = model.family.processing.whole([noise(60, 60)], "what")
    ids = given["input_ids"]
    assert torch.equal(torch.isin(ids, torch.tensor(model.family.marked)).long(), given["moe_mm_token_type_ids"].long())


def test_a_checkpoint_s_own_files_name_its_processor(tmp_path: Path) -> None:
    folder = kinds.tiny("glm_ocr", tmp_path / "model")
    assert type(load(folder).family.processing.processor).__name__ == "Glm46VProcessor"
    (folder / "processor_config.json").unlink()
    with pytest.raises(ModelError, match="no processor for models of type glm_ocr"):
        load(folder)
