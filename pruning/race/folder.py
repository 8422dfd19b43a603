"""A run on disk, as its package describes it: what is read at any time, and what the one process at work writes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from filelock import FileLock, Timeout

MANIFEST, RESULTS, PROGRESS, STALE = "manifest.json", "results.jsonl", "progress.json", "stale.jsonl"
LOCK, STOP = "lock", "stop"
NEW_RUN: Final = "give another folder with --out"
T = TypeVar("T")
State = Literal["new", "running", "stopped", "done"]


@dataclass(frozen=True)
class Manifest:
    """What is raced on what.

    data: the name of the data set; source, reading: with what `open_data` opens it. rows: records, faults: those of
    them that cannot be asked. model: its id; revision: fingerprint of its files or the hub's commit. settings: name ->
    {"method", "retention", "knobs"}, all tokens first. how: all else that answers depend on: dtype, attention, pixels,
    per, positions, max_new_tokens. made_with: versions and device, which are told and may differ.
    """

    data: str
    source: str
    reading: Mapping[str, Any]
    rows: int
    faults: int
    model: str
    title: str
    revision: str
    settings: Mapping[str, Mapping[str, Any]]
    how: Mapping[str, Any]
    made_with: Mapping[str, str]

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on, the record apart."""
        return {"revision": self.revision, "settings": self.settings, "how": self.how}

    def key(self, digest: str, asked: str, answers: Collection[str], metric: str) -> str:
        """The identity of a row. digest: of the picture's content."""
        return hashed([self.identity, digest, asked, list(answers), metric])


@dataclass(frozen=True)
class Cell:
    """What one setting said. came_to: its equivalent retention for this picture. error: why it could not be asked."""

    said: str = ""
    score: float = 0.0
    came_to: float = 1.0
    error: str = ""


@dataclass(frozen=True)
class Result:
    """One row's result. cells: setting -> what it said. n: visual tokens.

    picture: its name; digest: SHA-256 of its content. error: why the row could not be asked; it has no cells then.
    """

    key: str
    row: int
    id: str
    error: str = ""
    group: str = ""
    picture: str = ""
    digest: str = ""
    question: str = ""
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    metric: str = ""
    n: int = 0
    cells: Mapping[str, Cell] = field(default_factory=dict)

    def line(self) -> bytes:
        """As it stands in the file."""
        if self.error:
            told: dict[str, Any] = {"key": self.key, "row": self.row, "id": self.id, "error": self.error}
        else:
            told = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "error"}
            told["cells"] = {name: _told(cell) for name, cell in self.cells.items()}
        return json.dumps(told, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Result:
        """Raises ValueError for a line that is cut off or no result."""
        try:
            told = json.loads(line)
            cells = {name: Cell(**cell) for name, cell in told.pop("cells", {}).items()}
            answers, choices = tuple(told.pop("answers", ())), tuple(told.pop("choices", ()))
            return cls(**told, answers=answers, choices=choices, cells=cells)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"no result of a race ({error})") from error


@dataclass(frozen=True)
class Progress:
    """How far a run is, over all its starts. done: rows with a result, errors: of them those that could not be asked.

    answers: given. seconds: of work; model_seconds: of these in the model and in choosing. encoded: pictures.
    """

    done: int = 0
    errors: int = 0
    answers: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    encoded: int = 0


class Run:
    """A run's folder, read at any time, also while another process writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> Manifest:
        """Raises ValueError where the folder holds no run, or a damaged one."""
        return _read(Manifest, self.path / MANIFEST)

    @property
    def progress(self) -> Progress:
        with suppress(FileNotFoundError):
            return _read(Progress, self.path / PROGRESS)
        return Progress()

    def state(self) -> State:
        """new: nothing asked yet; running: a process holds the lock; stopped: rows are left, and nobody asks them."""
        if held(self.path / LOCK):
            return "running"
        progress = self.progress
        if not progress.done:
            return "new"
        return "done" if progress.done >= self.manifest.rows else "stopped"

    def ask_to_stop(self) -> None:
        """Whatever process is at work ends after the row under way. Raises OSError where the folder cannot be used."""
        (self.path / STOP).touch()

    def results(self) -> Iterator[Result]:
        """Every result so far, in the file's order; a last line that is being written is left out."""
        with suppress(FileNotFoundError), (self.path / RESULTS).open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield Result.of(line)
                except ValueError as error:
                    raise ValueError(f"{self.path / RESULTS}, line {number}: {error}: remove it and resume") from error


class Writer:
    """The one process at work on a run: holds its lock from `with` to its end."""

    def __init__(self, path: Path) -> None:
        self.run = Run(path)
        self.path = path

    def __enter__(self) -> Writer:
        """Raises ValueError where another process is at work in the folder, or it cannot be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / LOCK)
            self._lock.acquire(timeout=1)  # whoever asks for the state holds it for a moment
            (self.path / STOP).unlink(missing_ok=True)
        except Timeout as error:
            raise ValueError(f"another race is at work in {self.path}: wait for its end, or {NEW_RUN}") from error
        except OSError as error:
            raise ValueError(f"the folder {self.path} cannot be used ({error.strerror}): {NEW_RUN}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def asked_to_stop(self) -> bool:
        return (self.path / STOP).exists()

    def begin(self, manifest: Manifest) -> None:
        """Write the manifest. Raises ValueError where the folder holds another race, saying what differs."""
        if (self.path / MANIFEST).is_file():
            before = self.run.manifest
            for name in ("data", "model", "revision", "settings", "how"):
                was, now = getattr(before, name), getattr(manifest, name)
                if was != now:
                    raise ValueError(f"{self.path} holds another race: {_difference(name, was, now)}: {NEW_RUN}")
        replace_file(self.path / MANIFEST, json.dumps(asdict(manifest), ensure_ascii=False, indent=1).encode())

    def keep(self, keys: Collection[str]) -> tuple[set[str], list[Result]]:
        """Before the first question: lines that do not count go to stale.jsonl: of other keys than these, errors, a
        cut-off end. Returns the keys that have a result, and the results that went.
        """
        path, kept, gone, torn = self.path / RESULTS, set[str](), list[Result](), False
        if not path.is_file():
            return kept, gone
        fresh = path.with_name(f"{RESULTS}.new")
        with path.open("rb") as file, fresh.open("wb") as out:
            for line in file:
                try:
                    result = Result.of(line)
                except ValueError:
                    torn = True
                    continue
                if result.error or result.key not in keys or result.key in kept or not line.endswith(b"\n"):
                    gone.append(result)
                    continue
                kept.add(result.key)
                out.write(line)
            _sync(out)
        if gone:
            append(self.path / STALE, b"".join(result.line() for result in gone))
        if gone or torn:
            os.replace(fresh, path)
        else:
            fresh.unlink()
        return kept, gone

    def add(self, result: Result, progress: Progress) -> None:
        """One more line, on the disk when this returns. Raises OSError as the disk does; a part of a line is undone."""
        append(self.path / RESULTS, result.line())
        self.note(progress)

    def note(self, progress: Progress) -> None:
        replace_file(self.path / PROGRESS, json.dumps(asdict(progress)).encode(), sync=False)


def append(path: Path, data: bytes) -> None:
    """Add to the file's end and sync; where that fails, the file is as it was. Raises OSError."""
    with path.open("ab") as file:
        size = file.tell()
        try:
            file.write(data)
            _sync(file)
        except OSError:
            with suppress(OSError):
                os.truncate(path, size)
            raise


def replace_file(path: Path, data: bytes, sync: bool = True) -> None:
    """The whole file anew or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        if sync:
            _sync(file)
    os.replace(fresh, path)


def hashed(value: Any) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _told(cell: Cell) -> dict[str, Any]:
    if cell.error:
        return {"error": cell.error}
    return {"said": cell.said, "score": cell.score, "came_to": cell.came_to}


def _difference(name: str, was: Any, now: Any) -> str:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in [*now, *was]:
            if was.get(key) != now.get(key):
                return f"{name} {key!r} was {was.get(key, 'not there')!r} and is {now.get(key, 'not there')!r} now"
    return f"{name} was {was!r} and is {now!r} now"


def _read(kind: type[T], path: Path) -> T:
    try:
        return kind(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {NEW_RUN}") from error
    except FileNotFoundError as error:
        if kind is Progress:
            raise
        raise ValueError(f"{path.parent} holds no run of a race: it has no {path.name}") from error


def held(path: Path) -> bool:
    """Whether a process holds this lock."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
