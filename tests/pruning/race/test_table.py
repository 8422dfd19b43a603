"""What the table says of results that are known."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from pruning.race.folder import MANIFEST, RESULTS, Cell, Manifest, Result, Run
from pruning.race.metrics import yes_no
from pruning.race.settings import ALL
from pruning.race.statistics import holm, paired
from pruning.race.table import table

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


def run(folder: Path, said: dict[str, list[str]], metric: str = "yes_no") -> Run:
    made = Manifest("mine", "mine.jsonl", len(TRUE), 0, "tiny", "Tiny", "0", SETTINGS, {}, {})
    (folder / MANIFEST).write_text(json.dumps(asdict(made)))
    lines = []
    for i, true in enumerate(TRUE):
        cells = {
            name: Cell(words[i], yes_no(words[i], [true]), SETTINGS[name]["retention"]) for name, words in said.items()
        }
        lines.append(Result(f"{i}", i, f"{i}", digest=f"{i}", answers=(true,), metric=metric, n=64, cells=cells).line())
    (folder / RESULTS).write_bytes(b"".join(lines))
    return Run(folder)


def test_shares_and_the_difficult_part(tmp_path: Path) -> None:
    whole, random, lower = table(run(tmp_path, SAID))
    assert (whole["accuracy"], random["accuracy"], lower["accuracy"]) == (1, 4 / 6, 4 / 6)
    assert random["kept"] == 4 / 6
    assert random["difficult"] == 1 / 2, "of the second and third question it has the second"
    assert random["simple"] == 3 / 4
    assert "difficult" not in lower


def test_comparisons_are_holm_s_over_the_table(tmp_path: Path) -> None:
    _, random, lower = table(run(tmp_path, SAID))
    scores = {name: [float(a == b) for a, b in zip(said, TRUE, strict=True)] for name, said in SAID.items()}
    pictures = [f"{i}" for i in range(len(TRUE))]
    asked = [(mine, rival) for mine in list(SAID)[1:] for rival in SAID if rival != mine]
    wanted = dict(zip(asked, holm([paired(scores[a], scores[b], pictures) for a, b in asked]), strict=True))
    names = {ALL: "p_all_tokens", "random@0.25": "p_random", "lower_resolution@0.25": "p_lower_resolution"}
    rows = {"random@0.25": random, "lower_resolution@0.25": lower}
    told = {(mine, rival): rows[mine][names[rival]] for mine, rival in asked}
    assert told == pytest.approx(wanted)


def test_yes_and_no_have_pope_s_figures(tmp_path: Path) -> None:
    _, random, lower = table(run(tmp_path, SAID))
    assert (random["precision"], random["recall"], random["f1"], random["yes"]) == (2 / 3, 2 / 3, 2 / 3, 3 / 6)
    assert (lower["precision"], lower["recall"], lower["f1"], lower["yes"]) == (1, 1 / 3, 1 / 2, 1 / 6)
    never = SAID | {"random@0.25": ["no"] * len(TRUE)}
    assert table(run(tmp_path, never))[1]["precision"] is None
    assert "f1" not in table(run(tmp_path, SAID, metric="exact"))[1]
