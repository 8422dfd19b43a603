"""Runs of a race whose results are known, without a model."""

import json
from dataclasses import asdict
from pathlib import Path

from pruning.race.folder import MANIFEST, RESULTS, Cell, Manifest, Result, Run
from pruning.race.metrics import yes_no
from pruning.race.settings import ALL

SETTINGS = {
    ALL: {"method": "", "retention": 1.0},
    "random@0.25": {"method": "random", "retention": 0.25},
    "lower_resolution@0.25": {"method": "lower_resolution", "retention": 0.25},
}
TRUE = ["yes", "yes", "yes", "no", "no", "no"]
SAID = {
    ALL: TRUE,
    "random@0.25": ["yes", "yes", "no", "yes", "no", "no"],
    "lower_resolution@0.25": ["yes", "no", "no", "no", "no", "no"],
}


def run(folder: Path, said: dict[str, list[str]], metric: str = "yes_no", true: list[str] = TRUE) -> Run:
    made = Manifest("mine", "mine.jsonl", {}, len(true), 0, "tiny", "Tiny", "0", SETTINGS, {}, {})
    (folder / MANIFEST).write_text(json.dumps(asdict(made)))
    lines = []
    for i, answer in enumerate(true):
        cells = {
            name: Cell(words[i], yes_no(words[i], [answer]), SETTINGS[name]["retention"])
            for name, words in said.items()
        }
        lines.append(
            Result(f"{i}", i, f"{i}", digest=f"{i}", answers=(answer,), metric=metric, n=64, cells=cells).line()
        )
    (folder / RESULTS).write_bytes(b"".join(lines))
    return Run(folder)
