"""The runs under the operator's folder, read as they stand now; and those that the operator starts here.

Knows models and folders, not the page. A run that is started here is a thread of this process: it takes the device row
by row, in turn with visitors, and outlives the page that started it. What stops it is the run's own file, so a race of
another process is stopped in the same way.
"""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.engine.device import Task, working
from app.engine.engine import Engine
from app.model_pool.pool import Models
from pruning.choosing import Asked
from pruning.race.data import open_data
from pruning.race.folder import MANIFEST, RESULTS, Result, Run, State
from pruning.race.loop import Estimate, Race
from pruning.race.report import files, write
from pruning.race.settings import setting_of, settings_of
from pruning.race.table import table

T = TypeVar("T")

OWNER = "race"  # whose work with a model it is
REST, LEAST = 10, 10.0  # a table is made anew after so many times the time that it took, and so many seconds
TOKENS = 32  # of an answer
UNASKED = 120.0  # seconds that a race may take without a yes to its estimate


@dataclass(frozen=True)
class Listed:
    """A run as it stands now. name: its folder's. done, errors: rows; seconds: of work. problem: why it cannot be read,
    or why it ended here. estimate: of what it takes, where it waits for a yes to it.
    """

    name: str
    state: State = "new"
    data: str = ""
    model: str = ""
    settings: int = 0
    done: int = 0
    rows: int = 0
    errors: int = 0
    seconds: float = 0.0
    problem: str = ""
    estimate: str = ""


@dataclass(frozen=True)
class Wanted:
    """A race to start. source: as `open_data` takes it. limit: rows at most, None for all."""

    source: str
    methods: Mapping[str, Asked]
    retentions: tuple[float, ...]
    limit: int | None = None
    metric: str | None = None


class Races:
    """starts: whether races may be started, resumed and stopped here; else they are only shown."""

    def __init__(self, folder: Path, starts: bool) -> None:
        self.folder, self.starts = folder, starts
        self._lock = threading.Lock()
        self._at_work: dict[str, threading.Thread] = {}
        self._problems: dict[str, str] = {}
        self._estimates: dict[str, str] = {}  # of runs that wait for a yes
        self._kept: dict[
            tuple[str, str], tuple[int, float, Any]
        ] = {}  # (name, what) -> lines' bytes, until when, value

    def names(self) -> list[str]:
        """Of the runs, the last one that was written to first."""
        try:
            found = [
                path for path in self.folder.iterdir() if (path / MANIFEST).is_file() or path.name in self._at_work
            ]
        except OSError:
            return []
        return [path.name for path in sorted(found, key=_changed, reverse=True)]

    def run(self, name: object) -> Run:
        """Raises ValueError for what is no name of a run here."""
        if not isinstance(name, str) or name not in self.names():
            raise ValueError(f"there is no run {name!r} any more: choose another")
        return Run(self.folder / name)

    def listed(self, name: str) -> Listed:
        """How it stands. A damaged one says so."""
        run, problem = self.run(name), self._problems.get(name, "")
        if self._begun(name) and not (run.path / MANIFEST).is_file():
            return Listed(name, "running")
        try:
            manifest, progress = run.manifest, run.progress
            state = "running" if self._begun(name) else run.state()  # until its report is written
        except ValueError as error:
            return Listed(name, problem=problem or str(error))
        return Listed(name, state, manifest.data, manifest.title, len(manifest.settings), progress.done, manifest.rows,
                      progress.errors, progress.seconds, problem, self._estimates.get(name, ""))  # fmt: skip

    def table(self, name: str) -> list[dict[str, Any]]:
        """As `race.table.table`; of a run at work not much older than it takes to make. Raises ValueError as that."""
        return self._known(name, "table", lambda run: table(run))

    def version(self, name: str) -> int:
        """Of what `table` gave last: another number, other rows."""
        kept = self._kept.get((name, "table"))
        return -1 if kept is None else kept[0]

    def results(self, name: str) -> tuple[Result, ...]:
        """Every result so far, the same way. Raises ValueError as `Run.results`."""
        return self._known(name, "results", lambda run: tuple(run.results()))

    def report(self, name: str) -> bytes | None:
        """The run's report, tables and manifest, in one ZIP, of which the same run makes the same bytes; None while it
        is at work and before its first result. Raises ValueError as `table`.
        """
        run, packed = self.run(name), io.BytesIO()
        if self._begun(name) or run.state() in ("new", "running"):
            return None
        texts = files(run, self.table(name)) | {MANIFEST: (run.path / MANIFEST).read_text("utf-8")}
        with zipfile.ZipFile(packed, "w") as out:
            for file, text in texts.items():
                out.writestr(zipfile.ZipInfo(f"{name}/{file}"), text, zipfile.ZIP_DEFLATED)
        return packed.getvalue()

    def _known(self, name: str, what: str, make: Callable[[Run], T]) -> T:
        run = self.run(name)
        size = _size(run.path / RESULTS)
        kept = self._kept.get((name, what))
        if kept is not None and (kept[0] == size or (run.state() == "running" and time.monotonic() < kept[1])):
            held: T = kept[2]
            return held
        start = time.monotonic()
        made = make(run)
        now = time.monotonic()
        if len(self._kept) > 8:  # a table or two are looked at, not all of them
            self._kept.clear()
        self._kept[name, what] = (size, now + max(LEAST, REST * (now - start)), made)
        return made

    # The operator's

    def start(self, models: Models, model_name: str, wanted: Wanted) -> str:
        """Begin a race on a loaded model in a folder of its own; the run's name. One longer than `UNASKED` stops
        at its estimate, and `resume` says yes to it. Raises ValueError as `open_data`, for no method, and where nothing
        may be started here.
        """
        self._allowed()
        if not wanted.methods:
            raise ValueError("no method is chosen: choose at least one")
        data = open_data(wanted.source.strip(), metric=wanted.metric, limit=wanted.limit)
        settings = settings_of(wanted.methods, wanted.retentions)
        source = models.allowed[model_name].model_id
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            number = next(i for i in range(1, 1_000_000) if not (self.folder / f"{data.name}-{i}").exists())
            name = f"{data.name}-{number}"
            (self.folder / name).mkdir()
            self._begin(
                models,
                model_name,
                name,
                lambda engine: Race(engine.vlm, source, data, settings, max_new_tokens=TOKENS, alone=engine.on_device),
                asks=True,
            )
        return name

    def resume(self, models: Models, model_name: str, name: str) -> None:
        """Go on with a run, on the model that it was begun with. Raises ValueError where that is another one, or the
        run is done or at work.
        """
        self._allowed()
        run = self.run(name)
        manifest, state = run.manifest, self.listed(name).state
        if state in ("running", "done"):
            raise ValueError(f"{name} is {'at work' if state == 'running' else 'done'}: there is nothing to resume")
        with models.use(model_name, OWNER) as (engine, _):
            if engine.vlm.model_id != manifest.model:
                raise ValueError(f"{name} asks {manifest.title}: choose that model on the view Explore, then resume")
        data, how = open_data(manifest.source, **manifest.reading), manifest.how
        settings = [setting_of(told) for told in manifest.settings.values()]
        source = models.allowed[model_name].model_id
        with self._lock:
            if self._begun(name):
                raise ValueError(f"{name} is at work already")
            self._begin(
                models,
                model_name,
                name,
                lambda engine: Race(
                    engine.vlm,
                    source,
                    data,
                    settings,
                    how["per"],
                    how["positions"],
                    how["max_new_tokens"],
                    how["until_told_apart"],
                    engine.on_device,
                ),
            )

    def stop(self, name: str) -> None:
        """End it after the row under way; what is there stays."""
        self._allowed()
        self.run(name).ask_to_stop()

    def _allowed(self) -> None:
        if not self.starts:
            raise ValueError("races are started by whoever runs this app, on their own machine")

    def _begun(self, name: str) -> bool:
        """Whether this process is at work on it."""
        return (thread := self._at_work.get(name)) is not None and thread.is_alive()

    def _begin(
        self, models: Models, model_name: str, name: str, make: Callable[[Engine], Race], asks: bool = False
    ) -> None:
        folder = self.folder / name

        def work() -> None:
            try:
                with working(Task()), models.use(model_name, OWNER) as (engine, _):

                    def confirm(estimate: Estimate) -> bool:
                        if not asks or (estimate.seconds or 0) <= UNASKED:
                            return True
                        self._estimates[name] = estimate.words(str(engine.vlm.device))
                        return False

                    make(engine).run(folder, confirm)
                write(Run(folder))
            except Exception as error:
                expected = isinstance(error, ValueError | OSError | RuntimeError)
                self._problems[name] = str(error) if expected else type(error).__name__

        self._problems.pop(name, None)
        self._estimates.pop(name, None)
        self._at_work[name] = threading.Thread(target=work, name="race", daemon=True)
        self._at_work[name].start()


def differing(results: Sequence[Result], first: str, second: str) -> list[Result]:
    """Where two settings have another score: the largest difference first, then in the file's order."""
    found = [(abs(result.cells[first].score - result.cells[second].score), result) for result in results
             if _answered(result, first) and _answered(result, second)]  # fmt: skip
    return [result for away, result in sorted(found, key=lambda pair: -pair[0]) if away]


def _answered(result: Result, name: str) -> bool:
    return name in result.cells and not result.cells[name].error


def _changed(path: Path) -> float:
    try:
        return max((path / name).stat().st_mtime for name in (MANIFEST, RESULTS) if (path / name).exists())
    except (OSError, ValueError):
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
