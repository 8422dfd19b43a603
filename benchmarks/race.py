"""The race against one process per setting, and its memory over many rows.

`python -m benchmarks.race --scenes 20` runs twelve settings on the held-out scenes twice: as one race, and as harnesses
do it, a process for each setting that encodes the picture anew for every question and answers it alone. Both load the
shipped model themselves and give the same answers, which is checked. `python -m benchmarks.race memory --rows 2000`
prints the resident memory of one race every 200 rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.report import show, table
from pruning.choosing import Asked, choose, name_of, needs_of
from pruning.cli import console
from pruning.encoding import make_encoding
from pruning.method import make
from pruning.models import SHIPPED, VLM, Sample, limit_threads, load
from pruning.race.data import open_data
from pruning.race.folder import Run
from pruning.race.loop import Race
from pruning.race.records import Record
from pruning.race.settings import ALL, Setting, settings_of

METHODS: tuple[Asked, ...] = (
    *(make(name) for name in ("idpruner", "divprune", "greedy_importance", "random", "uniform")),
    make_encoding("lower_resolution"),
)
TWELVE = 12
TOKENS = 8  # of an answer, at most
STEP = 200  # rows between two looks at the memory


@dataclass(frozen=True)
class Compared:
    """Seconds of both ways, loading included. encoded: pictures that went through the tower, of so many.

    overhead: share of the race's time outside of the model and of choosing. same: whether all answers are equal.
    """

    settings: int
    questions: int
    pictures: int
    encoded: int
    race_s: float
    processes_s: float
    overhead: float
    same: bool

    @property
    def times(self) -> float:
        return self.processes_s / self.race_s


def settings(many: int = TWELVE) -> list[Setting]:
    """All tokens, and methods at a quarter and a tenth, so many in all."""
    return settings_of({name_of(each): each for each in METHODS}, (0.25, 0.1))[:many]


def race(folder: Path, scenes: int, many: int) -> None:
    """All settings in one race."""
    vlm = _loaded()
    data = open_data("scenes", scenes=scenes)
    Race(vlm, str(SHIPPED), data, settings(many), max_new_tokens=TOKENS).run(folder, lambda estimate: True)


def alone(name: str, scenes: int, many: int) -> list[str]:
    """What one setting says to every question, each with its picture encoded anew."""
    vlm, found = _loaded(), list[str]()
    (setting,) = (each for each in settings(many) if each.name == name)
    for row in open_data("scenes", scenes=scenes).rows():
        assert isinstance(row, Record)
        images = [row.picture.open()]
        if setting.asked is None:
            sample = Sample(vlm.encode(images), row.asked)
        else:
            needs = needs_of(setting.asked)
            encoded = vlm.encode(images, needs - {"question"})
            tokens = vlm.tokens(encoded, row.asked, needs)
            kept = choose(setting.asked, tokens, vlm.layers, setting.retention,
                          again=lambda asked, images=images: vlm.encode(images, asked=asked))  # type: ignore[misc]  # fmt: skip
            sample = Sample(encoded, row.asked, kept)
        found.append(vlm.answer_batch([sample], max_new_tokens=TOKENS)[0].text)
    return found


def compare(scenes: int, many: int) -> Compared:
    """Both ways in processes of their own, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        start = time.perf_counter()
        _process("race", "--out", folder, scenes=scenes, many=many)
        race_s = time.perf_counter() - start
        results = sorted(run.results(), key=lambda result: result.row)
        progress = run.progress
    start, said = time.perf_counter(), dict[str, list[str]]()
    for each in settings(many):
        said[each.name] = json.loads(_process("alone", "--name", each.name, scenes=scenes, many=many))
    processes_s = time.perf_counter() - start
    same = all([result.cells[name].said for result in results] == texts for name, texts in said.items())
    pictures = len({result.digest for result in results})
    overhead = 1 - progress.model_seconds / progress.seconds
    return Compared(len(said), len(results), pictures, progress.encoded, round(race_s, 2), round(processes_s, 2),
                    round(overhead, 4), same)  # fmt: skip


def memory(rows: int) -> list[tuple[int, float]]:
    """(rows done, resident MB) of one race with three settings, every STEP rows and at its end."""
    vlm, process, found = _loaded(), psutil.Process(), list[tuple[int, float]]()
    chosen = [each for each in settings() if each.name in (ALL, "idpruner@0.25", "random@0.25")]
    data = open_data("scenes", scenes=rows, limit=rows)

    def look(done: int, of: int) -> None:
        if done % STEP == 0 or done == of:
            found.append((done, round(process.memory_info().rss / 1e6, 1)))

    with tempfile.TemporaryDirectory() as folder:
        Race(vlm, str(SHIPPED), data, chosen, max_new_tokens=TOKENS).run(Path(folder), lambda estimate: True, look)
    return found


def _loaded() -> VLM:
    vlm = load()
    limit_threads(vlm)
    return vlm


def _process(what: str, *more: str, scenes: int, many: int) -> str:
    command = [sys.executable, "-m", "benchmarks.race", what, "--scenes", str(scenes), "--settings", str(many), *more]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="compare", choices=["compare", "memory", "race", "alone"],
                        help="race and alone are the parts of compare")  # fmt: skip
    parser.add_argument("--scenes", type=int, default=20, help="pictures, default: %(default)s")
    parser.add_argument("--settings", type=int, default=TWELVE, help="all tokens among them, default: %(default)s")
    parser.add_argument("--rows", type=int, default=2000, help="of memory, default: %(default)s")
    parser.add_argument("--out", type=Path, help="folder of race")
    parser.add_argument("--name", help="setting of alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(arguments)
    if options.what == "race":
        race(options.out, options.scenes, options.settings)
    elif options.what == "alone":
        sys.stdout.write(console.as_json(alone(options.name, options.scenes, options.settings)))
    elif options.what == "memory":
        looks = memory(options.rows)
        show({"memory": looks}, table(("rows", "resident, MB"), [(f"{n:,}", f"{mb:,.1f}") for n, mb in looks]),
             options.json)  # fmt: skip
    else:
        found = compare(options.scenes, options.settings)
        rows = [
            ("one race", f"{found.race_s:.1f} s", f"{found.encoded} for {found.pictures} pictures"),
            ("one process per setting", f"{found.processes_s:.1f} s", "every question, in every process"),
        ]
        text = table((f"{found.settings} settings, {found.questions} questions", "time", "encodings"), rows)
        text += f"\n\n{found.times:.1f} times less; {found.overhead:.1%} of the race is outside of model and choosing; "
        text += "the same answers" if found.same else "OTHER ANSWERS"
        show({**asdict(found), "times": found.times}, text, options.json)


if __name__ == "__main__":
    main()
