"""Workers answer as one process does: with Ray where it is installed, one of two killed in mid-run; and without it."""

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from pruning.cli.race import confirmed, on_worker
from pruning.models import SHIPPED, load
from pruning.race.cluster import LOCAL, Workers, _blocks, _check
from pruning.race.data import open_data
from pruning.race.folder import RESULTS, Run
from pruning.race.loop import Estimate, Race
from pruning.race.records import Fault, Record
from pruning.race.settings import settings_of
from tests.helpers.races import METHODS

SETTINGS = settings_of({"random": METHODS["random"]}, [0.25])


def race(scenes: int) -> Race:
    return Race(load(), str(SHIPPED), open_data("scenes", scenes=scenes), SETTINGS, max_new_tokens=4)


def test_rows_about_one_picture_stay_together() -> None:
    rows = [(row, f"{i}") for i, row in enumerate(open_data("scenes", scenes=2).rows())]
    rows.insert(2, (Fault(3, "3", "no picture"), "x"))
    blocks = list(_blocks(rows))
    assert [row for block in blocks for row in block] == rows
    for block in blocks:
        assert len({row.picture.name for row, _ in block if isinstance(row, Record)}) <= 1
    assert len(blocks) == 4


def test_workers_that_would_answer_otherwise_are_refused() -> None:
    mine = {"how": {"dtype": "float32"}, "revision": "a"}
    _check(mine, mine)
    with pytest.raises(ValueError, match="the workers have dtype bfloat16, this machine float32: name it, as --dtype"):
        _check(mine, mine | {"how": {"dtype": "bfloat16"}})
    with pytest.raises(ValueError, match="another revision of the model"):
        _check(mine, mine | {"revision": "b"})


def test_without_ray_and_in_no_order_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    workers, chosen = Workers(LOCAL, lambda: race(1)), race(1)
    with pytest.raises(ValueError, match=r"--ray needs Ray: pip install \"idpruner-lab\[race\]\""):
        chosen.run(tmp_path / "a", lambda _: True, workers=workers)
    with pytest.raises(ValueError, match="0 workers answer nothing"):
        Workers(LOCAL, lambda: race(1), 0)
    early = Race(chosen.model, chosen.source, chosen.data, chosen.settings, until_told_apart=0.05)
    with pytest.raises(ValueError, match="--until-told-apart needs the rows in their order"):
        early.run(tmp_path / "b", lambda _: True, workers=workers)


def test_the_estimate_tells_of_workers_too() -> None:
    told = list[str]()
    assert confirmed(Estimate(5000, (), 2_600_000, 41 * 3600), "cuda", True, told.append, 32)
    assert told == ["5,000 rows are left: 2,600,000 answers, about 41.0 h on cuda, 77 min on 32 like it"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: the extra race")
def test_two_workers_of_which_one_is_killed_give_the_lines_of_one_process(tmp_path: Path) -> None:
    here = race(6)
    here.run(tmp_path / "here", lambda _: True)
    given = (here.source, {}, here.data, here.settings, "sample", "original", 4)
    killed = list[int]()

    def kill(done: int, rows: int) -> None:
        workers = [each for each in psutil.Process().children(recursive=True) if each.name().startswith("ray::_Worker")]
        if not killed and workers:
            killed.append(workers[0].pid)
            workers[0].kill()

    here.run(tmp_path / "far", lambda _: True, kill, Workers(LOCAL, partial(on_worker, *given), 2))
    assert killed
    lines = [sorted((tmp_path / each / RESULTS).read_bytes().splitlines()) for each in ("here", "far")]
    assert lines[0] == lines[1]
    assert Run(tmp_path / "far").progress.encoded >= 6
