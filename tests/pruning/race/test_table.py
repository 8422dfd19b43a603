"""What the table says of results that are known."""

from pathlib import Path

import pytest

from pruning.race.folder import Run
from pruning.race.settings import ALL
from pruning.race.statistics import holm, paired
from pruning.race.table import table
from tests.helpers.races import SAID, TRUE, run


def test_shares_and_the_difficult_part(tmp_path: Path) -> None:
    whole, random, lower = table(run(tmp_path, SAID))
    assert (whole["accuracy"], random["accuracy"], lower["accuracy"]) == (1, 4 / 6, 4 / 6)
    assert random["kept"] == 4 / 6
    assert random["difficult"] == 1 / 2, "of the second and third question it has the second"
    assert random["simple"] == 3 / 4
    assert "difficult" not in lower


def test_comparisons_are_holm_s_over_all_at_a_retention_and_all_tokens(tmp_path: Path) -> None:
    _, random, lower = table(run(tmp_path, SAID))
    scores = {name: [float(a == b) for a, b in zip(said, TRUE, strict=True)] for name, said in SAID.items()}
    pictures = [f"{i}" for i in range(len(TRUE))]
    _, a, b = SAID
    asked = [(a, ALL), (b, ALL), (a, b)]
    wanted = holm([paired(scores[one], scores[other], pictures) for one, other in asked])
    told = [random["p_all_tokens"], lower["p_all_tokens"], random["p_lower_resolution"]]
    assert told == pytest.approx(wanted)
    assert lower["p_random"] == random["p_lower_resolution"]


def test_of_clips_fewer_frames_tell_what_is_difficult(tmp_path: Path) -> None:
    made = run(tmp_path, SAID)
    of_pictures = table(made)[1]
    for file in tmp_path.iterdir():
        file.write_text(file.read_text().replace("lower_resolution", "fewer_frames"))
    _, random, fewer = table(Run(tmp_path))
    assert (random["difficult"], random["simple"]) == (of_pictures["difficult"], of_pictures["simple"])
    assert (random["p_fewer_frames"], fewer["p_random"]) == (of_pictures["p_lower_resolution"],) * 2
    assert "p_lower_resolution" not in random


def test_the_best_and_who_cannot_be_told_apart_from_it(tmp_path: Path) -> None:
    many = {name: said * 20 for name, said in SAID.items()}
    worse = {ALL: TRUE * 20, "random@0.25": TRUE * 20, "lower_resolution@0.25": ["no"] * len(TRUE) * 20}
    for said, groups in ((many, ("a", "a")), (worse, ("a", "b"))):
        folder = tmp_path / groups[1]
        folder.mkdir()
        whole, random, lower = table(run(folder, said, true=TRUE * 20))
        assert (random["groups"], lower["groups"]) == groups
        assert (random["best"], lower["best"]) == (True, False)
        assert ("p_best" in random, lower["p_best"]) == (False, lower["p_random"])
        assert "best" not in whole


def test_yes_and_no_have_pope_s_figures(tmp_path: Path) -> None:
    _, random, lower = table(run(tmp_path, SAID))
    assert (random["precision"], random["recall"], random["f1"], random["yes"]) == (2 / 3, 2 / 3, 2 / 3, 3 / 6)
    assert (lower["precision"], lower["recall"], lower["f1"], lower["yes"]) == (1, 1 / 3, 1 / 2, 1 / 6)
    never = SAID | {"random@0.25": ["no"] * len(TRUE)}
    assert table(run(tmp_path, never))[1]["precision"] is None
    assert "f1" not in table(run(tmp_path, SAID, metric="exact"))[1]
