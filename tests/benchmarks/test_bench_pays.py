"""Whether pruning pays on a model of true shape: the smallest shape runs through, in both forms."""

from __future__ import annotations

import json

import pytest

from benchmarks import pays


def test_the_smallest_shape_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        "--shape",
        "tiny",
        "--tokens",
        "16",
        "--concurrency",
        "2",
        "--rounds",
        "1",
        "--scales",
        "1",
        "--dtype",
        "float32",
    ]
    pays.main([*given, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [row["n"] for row in found["rows"]] == [16, 4, 4]
    assert [size["n"] for size in found["sizes"]] == [16]
    pays.main(given)
    assert "tiny in float32, vision depth 2" in capsys.readouterr().out
