"""The model benchmark on its smallest shape: it measures what it says, and its shapes are the true ones."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.models import Row, main, markdown, measure
from benchmarks.shapes import SHAPES, build_model, picture
from pruning.evaluation.cost import kv_cache_bytes, prefill_flops
from pruning.models.checkpoint.footprint import Shape
from pruning.models.checkpoint.presets import PRESETS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vlm():
    return build_model("tiny", CPU, torch.float32, None, 64)


def test_rows_are_what_the_model_did(vlm) -> None:
    rows = measure(vlm, 36, [0.25, 0.1], repeats=2)
    assert [row.kept for row in rows] == [36, 9, 4]
    whole = rows[0]
    for row in rows:
        assert row.prefill_tokens == whole.prefill_tokens - 36 + row.kept
        assert row.kv_bytes == kv_cache_bytes(vlm.config, row.prefill_tokens, torch.float32)
        flops = [prefill_flops(vlm.config, r.prefill_tokens) for r in (whole, row)]
        assert row.limit == pytest.approx(flops[0] / flops[1])
        assert row.speed_up == pytest.approx(whole.ttft_ms[0] / row.ttft_ms[0])
        assert row.ttft_ms[1] <= row.ttft_ms[0] <= row.ttft_ms[2]
        assert row.ttft_ms[0] <= row.call_ms[2]
        assert (row.select_ms is None) == (row is whole)
        assert row.select_on_device_ms is None
        assert row.peak_bytes is None


def test_pictures_give_exactly_the_tokens_asked_for(vlm) -> None:
    assert [picture(n).size for n in (1296, 4096, 60)] == [(1008, 1008), (1792, 1792), (280, 168)]
    assert vlm.encode([picture(60)]).tokens.n == 60
    with pytest.raises(ValueError, match="1297 visual tokens"):
        picture(1297)


@pytest.mark.parametrize(
    ("name", "preset"), [("qwen2.5-vl-7b", "Qwen2.5-VL-7B-Instruct"), ("qwen2.5-vl-3b", "Qwen2.5-VL-3B-Instruct")]
)
def test_shapes_are_those_of_the_checkpoints(name: str, preset: str) -> None:
    shape, (known,) = SHAPES[name], (p for p in PRESETS if p.title == preset)
    kv_width = shape.kv_heads * shape.hidden // shape.heads
    expected = Shape(shape.layers, shape.hidden, shape.mlp, kv_width, shape.vision_hidden, shape.vision_mlp)
    assert known.shape == expected


def test_it_prints_a_table_or_json_and_writes_both(tmp_path: Path, capsys) -> None:
    options = ["--shape", "tiny", "--tokens", "16", "--retention", "0.5", "--repeats", "1", "--device", "cpu"]
    main([*options, "--json", "--out", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert "tiny" in found["machine"]
    assert [row["kept"] for row in found["rows"]] == [16, 8]
    assert json.loads((tmp_path / "models.json").read_text()) == found
    table = markdown(found["machine"], [Row(**row) for row in found["rows"]])
    assert (tmp_path / "models.md").read_text().strip() == table
    columns = {line.count("|") for line in table.splitlines()[2:]}
    assert len(columns) == 1
