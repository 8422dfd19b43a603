"""The benchmark of plans on its smallest shape: it measures what it says."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.plans import SCHEDULES, Row, Watch, main, markdown, measure, watched
from benchmarks.shapes import build_model
from pruning.evaluation.cost import prefill_flops
from pruning.models.language.passes import First


def test_rows_are_what_the_plans_came_to() -> None:
    vlm = build_model("tiny", torch.device("cpu"), torch.float32, None, 64)
    rows = {row.name: row for row in measure(vlm, 36, repeats=2)}
    assert list(rows) == ["all tokens", SCHEDULES[0], "idpruner at 0.750", SCHEDULES[1], "idpruner at 0.556"]
    whole, fastv, partner = rows["all tokens"], rows["fastv-published"], rows["idpruner at 0.750"]
    assert (whole.alive, fastv.alive, partner.alive) == ((36, 36), (36, 18), (27, 27))
    assert (whole.equivalent, fastv.equivalent, partner.equivalent) == (1, 0.75, 0.75)
    assert fastv.kv_bytes == partner.kv_bytes, "one equivalent retention, one KV cache"
    assert fastv.kv_ratio == whole.kv_bytes / fastv.kv_bytes > 1
    text = whole.kv_bytes // (2 * 2 * 16 * 4 * 2) - 36
    flops = [prefill_flops(vlm.config, [text + count for count in counts]) for counts in ((36, 36), (36, 18))]
    assert fastv.limit == pytest.approx(flops[0] / flops[1])
    assert (whole.speed_up, whole.cpu_speed_up, whole.limit) == (1, 1, 1)
    assert whole.cut_ms == partner.cut_ms == 0
    assert whole.cut_share is partner.cut_share is None
    assert 0 < fastv.cut_ms < fastv.cpu_ms


def test_a_watch_counts_what_is_inside_another_once_and_leaves_the_passes_as_they_were() -> None:
    clock = iter(range(100))
    watch, before = Watch(lambda: float(next(clock))), (First.before, First.others)
    inner = watch.timed(lambda: None)
    watch.timed(inner)()
    assert watch.seconds == 2  # one look at the clock between start and end
    with watched(watch):
        assert First.before is not before[0]
    assert (First.before, First.others) == before


def test_it_prints_a_table_or_json_and_writes_both(tmp_path: Path, capsys) -> None:
    options = ["--shape", "tiny", "--tokens", "16", "--repeats", "1", "--device", "cpu", "--dtype", "float32"]
    main([*options, "--json", "--out", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert "tiny in float32" in found["machine"]
    assert json.loads((tmp_path / "plans.json").read_text()) == found
    table = markdown(found["machine"], [Row(**row) for row in found["rows"]])
    assert (tmp_path / "plans.md").read_text().strip() == table
    assert len({line.count("|") for line in table.splitlines()[2:]}) == 1
