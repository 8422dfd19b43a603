"""The benchmark of selections without the matrix: both ways are timed for every rule, and make the same picks."""

from __future__ import annotations

import json

import pytest

from benchmarks import lazy


def test_both_ways_of_every_rule_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--shape", "36x20", "--keep", "0.25", "1", "--repeats", "1"]
    lazy.main([*arguments, "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["rule"], row["k"], row["agree"]) for row in rows] == [
        (rule, k, k)
        for k in (9, 36)
        for rule in (
            "mmr",
            "farthest_point",
            "weighted_farthest_point",
            "thin_out",
            "least_similar",
            "dpp",
            "deduplicate",
        )
    ]
    for row in rows:
        assert row["times"] == pytest.approx(row["matrix"]["wall_ms"] / row["lazy"]["wall_ms"], rel=0.1)
    lazy.main(arguments)
    assert capsys.readouterr().out.count("| mmr |") == 2
