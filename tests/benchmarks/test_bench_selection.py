"""The benchmark of the selection rules: all of them are timed, on picks that agree with the published loop's."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import selection


def test_every_rule_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    selection.main(["--tokens", "36", "--repeats", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    rows = {row["what"]: row for row in found["rows"]}
    assert len(rows) == 6
    assert {row["n"] for row in rows.values()} == {36}
    assert rows["mmr"]["k"] == 9
    published, own = (rows[what]["time"]["median_ms"] for what in ("published loop", "mmr"))
    assert rows["mmr"]["times_published"] == pytest.approx(published / own)
    selection.main(["--tokens", "36", "--repeats", "1"])
    shown = capsys.readouterr().out
    assert all(what in shown for what in rows)


def test_other_picks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection.ops, "mmr", lambda importance, similarity, k, mmr_lambda: torch.arange(k))
    with pytest.raises(RuntimeError, match="N = 36: the picks differ"):
        list(selection.measured(36, 1))
