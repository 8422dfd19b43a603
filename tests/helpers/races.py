"""Runs of a race whose results are known, without a model."""

import json
from dataclasses import asdict
from pathlib import Path

from pruning.choosing import Asked
from pruning.encoding import make_encoding
from pruning.method import make
from pruning.race.data import open_data
from pruning.race.folder import MANIFEST, PROGRESS, RESULTS, Cell, Manifest, Progress, Result, Run
from pruning.race.metrics import yes_no
from pruning.race.records import Record
from pruning.race.settings import ALL, settings_of, told

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


METHODS: dict[str, Asked] = {name: make(name) for name in ("idpruner", "random")}
METHODS |= {"lower_resolution": make_encoding("lower_resolution")}
HOW = {"dtype": "float32", "per": "sample", "positions": "original", "max_new_tokens": 8, "until_told_apart": None}


def scenes_run(folder: Path, model_id: str, scenes: int = 2) -> Run:
    """A finished run on drawn pictures that can be drawn again: at every second question random tokens are wrong."""
    folder.mkdir(parents=True)
    data, settings = open_data("scenes", scenes=scenes), settings_of(METHODS, [0.25, 0.1])
    rows = [row for row in data.rows() if isinstance(row, Record)]
    asked = {each.name: told(each) for each in settings}
    made = Manifest(data.name, data.source, data.reading, len(rows), 0, model_id, "Tiny", "0", asked, HOW, {})
    lines = []
    for i, row in enumerate(rows):
        wrong = {each.name for each in settings if each.method == "random" and i % 2}
        cells = {
            each.name: Cell("none", 0.0, each.retention or 1) if each.name in wrong
            else Cell(row.answers[0], 1.0, each.retention or 1)
            for each in settings
        }  # fmt: skip
        lines.append(
            Result(f"{i}", row.row, row.id, "", row.group, row.picture.name, row.picture.digest(), row.question,
                   row.answers, (), row.metric, 256, cells).line()
        )  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(asdict(made)), "utf-8")
    (folder / RESULTS).write_bytes(b"".join(lines))
    (folder / PROGRESS).write_text(json.dumps(asdict(Progress(len(rows), 0, 7 * len(rows), 9.0, 8.0, scenes))), "utf-8")
    return Run(folder)
