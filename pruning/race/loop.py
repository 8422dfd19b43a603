"""The race itself: row by row, encode once, ask all settings in batches, write one result; resume where it stopped."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import torch

from pruning.assets import version
from pruning.choosing import came_to
from pruning.grids import Scope
from pruning.models import VLM, Answer, Sample, in_world
from pruning.models.batches import alike_batches
from pruning.models.checkpoint.revision import revision
from pruning.models.values import Positions
from pruning.race.cluster import Answered, Row, Workers
from pruning.race.data import DataSet
from pruning.race.early import replay
from pruning.race.folder import Cell, Manifest, Progress, Result, Writer, hashed
from pruning.race.pictures import FilePicture
from pruning.race.records import Fault, Record
from pruning.race.settings import ALL, Setting, Shown, told

TOGETHER: Final = 16  # prompts that go through the language model at once
FIRST: Final = 2  # rows that the estimate is measured on


@dataclass(frozen=True)
class Estimate:
    """What is left to do. rows: without a result; answers: of them. seconds: None where nothing is left to measure."""

    rows: int
    faults: tuple[Fault, ...]
    answers: int
    seconds: float | None

    def words(self, device: str, workers: int | None = None) -> str:
        """In a sentence: what is left, and how long it takes on this device and on so many workers like it."""
        if not self.rows:
            return "every row has its result"
        time = "" if self.seconds is None else f", about {_duration(self.seconds)} on {device}"
        if self.seconds is not None and workers:
            time += f", {_duration(self.seconds / workers)} on {workers} like it"
        return f"{self.rows:,} rows are left: {self.answers:,} answers{time}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Race:
    """What is raced. Raises ValueError as the folder and the data set do.

    until_told_apart: a level, at which settings that can no longer win are asked no more (`early`); None: all are
    asked to the end. alone: runs each row's work, for an owner of the device who has others waiting for it.
    """

    model: VLM
    source: str
    data: DataSet
    settings: Sequence[Setting]
    per: Scope = "sample"
    positions: Positions = "original"
    max_new_tokens: int = 32
    until_told_apart: float | None = None
    alone: Callable[[Callable[[], Result]], Result] = lambda work: work()

    def manifest(self, rows: int, faults: int) -> Manifest:
        """source: the model's, as it was named."""
        vlm = self.model
        how = {
            "dtype": str(vlm.dtype).removeprefix("torch."),
            "attention": str(vlm.config._attn_implementation),
            "pixels": vlm.max_visual_tokens,
            "per": self.per,
            "positions": self.positions,
            "max_new_tokens": self.max_new_tokens,
            "until_told_apart": self.until_told_apart,
        }
        made = {"idpruner-lab": version(), "torch": torch.__version__, "device": str(vlm.device),
                "machine": platform.machine()}  # fmt: skip
        asked = {each.name: told(each) for each in self.settings}
        return Manifest(self.data.name, self.data.source, self.data.reading, rows, faults, vlm.model_id, vlm.title,
                        revision(self.source, vlm.config), asked, how, made)  # fmt: skip

    def run(
        self,
        folder: Path,
        confirm: Callable[[Estimate], bool],
        progress: Callable[[int, int], None] = lambda done, rows: None,
        workers: Workers | None = None,
    ) -> Progress:
        """Ask every row that has no result in the folder yet, after `confirm` has seen the estimate.

        A row that cannot be asked becomes a result with an error; a full disk ends the run with an OSError, what was
        written before stays. `Run.ask_to_stop` ends it after the row under way. progress(done, rows).
        workers: who answers in this process's place.

        Raises ValueError where another process is at work in the folder, or it holds another race, or no row can be
        asked; and as `Workers.answered`.
        """
        if workers is not None and self.until_told_apart is not None:
            raise ValueError("--until-told-apart needs the rows in their order, and --ray keeps none: leave one out")
        with Writer(folder) as writer:
            keys: dict[int, str] = {}
            faults: list[Fault] = []
            plan = self.manifest(0, 0)
            for row in self.data.rows():
                keys[row.row], fault = self._key(plan, row)
                faults += [fault] if fault else []
            if len(faults) == len(keys):
                why = f"row {faults[0].row}: {faults[0].reason}" if faults else "it has no rows"
                raise ValueError(f"the data set {self.data.name} has nothing to ask: {why}")
            writer.begin(self.manifest(len(keys), len(faults)))
            known, _ = writer.keep(set(keys.values()))
            before = writer.run.progress
            done, state = len(known), _State(before, self.settings)
            left = [row for row, key in keys.items() if key not in known]
            todo = set(left)
            seconds = self._paced(todo) if todo else None
            rest = None if seconds is None else seconds * len(left)
            if not confirm(Estimate(len(left), tuple(faults), len(left) * len(self.settings), rest)):
                return before
            errors, rows = 0, ((row, keys[row.row]) for row in self.data.rows() if row.row in todo)
            for result in self._asked(rows, state, writer) if workers is None else _far(workers, plan, rows, state):
                done, errors = done + 1, errors + bool(result.error)
                writer.add(result, state.progress(done, errors))
                progress(done, len(keys))
                if writer.asked_to_stop:
                    break
            final = state.progress(done, errors)
            writer.note(final)
            return final

    def answer(self, rows: Sequence[Row]) -> Answered:
        """The results of some rows that follow each other, as a worker gives them back."""
        state = _State(Progress(), self.settings)
        results = [self._result(row, key, state) for row, key in rows]
        return Answered(results, state.answers, state.encoded, state.model_seconds)

    def _asked(self, rows: Iterable[Row], state: _State, writer: Writer) -> Iterator[Result]:
        """Each row's result, here; up to where nothing is left to tell apart."""
        early = None
        if self.until_told_apart is not None:
            early = replay(writer.run.manifest.settings, self.until_told_apart, writer.run.results())
        for row, key in rows:
            if early is not None and isinstance(row, Record):
                with suppress(ValueError):  # what cannot be read says so when it is asked
                    early.at(row.picture.digest())
                state.asked = [each for each in self.settings if each.name in early.alive]
                if early.decided:
                    return
            start = time.perf_counter()
            result = self.alone(partial(self._result, row, key, state))
            state.seconds += time.perf_counter() - start
            if early is not None:
                early.see(result)
            yield result

    def _key(self, plan: Manifest, row: Record | Fault) -> tuple[str, Fault | None]:
        if isinstance(row, Record):
            try:
                seen = f"{row.id} {row.picture.digest()}{self._taken(row)}"
                return plan.key(seen, row.asked, row.answers, row.metric), None
            except ValueError as error:
                row = Fault(row.row, row.id, str(error))
        return hashed([plan.identity, row.row, row.id, row.reason]), row

    def _taken(self, record: Record) -> str:
        """Which frames of a clip are taken, which its answers depend on; "" of a picture."""
        if not isinstance(record.picture, FilePicture):
            return ""
        sampling = record.picture.sampling(self.model.sampling, self.model.no_clips)
        return "" if sampling is None else f" {sampling.rate:g} {sampling.frames}"

    def _paced(self, todo: set[int]) -> float:
        """Seconds a row, the first one apart, which warms up."""
        records = (row for row in self.data.rows() if row.row in todo and isinstance(row, Record))
        state, seconds = _State(Progress(), self.settings), 0.0
        for record in islice(records, FIRST):
            start = time.perf_counter()
            self.alone(partial(self._result, record, "", state))
            seconds = time.perf_counter() - start
        return seconds

    def _result(self, row: Record | Fault, key: str, state: _State) -> Result:
        if isinstance(row, Fault):
            return Result(key, row.row, row.id, row.reason)
        try:
            n, cells = self._cells(row, state)
        except (ValueError, RuntimeError, MemoryError) as error:
            return Result(key, row.row, row.id, str(error) or type(error).__name__)
        return Result(key, row.row, row.id, "", row.group, row.picture.name, row.picture.digest(), row.question,
                      row.answers, row.choices, row.metric, n, cells)  # fmt: skip

    def _cells(self, record: Record, state: _State) -> tuple[int, dict[str, Cell]]:
        digest = record.picture.digest()
        usual, no_clips = self.model.sampling, self.model.no_clips
        picture = None if state.digest == digest else record.picture.open(usual, no_clips)
        start = time.perf_counter()
        if picture is not None or state.shown is None:
            images = [picture or record.picture.open(usual, no_clips)]
            state.shown, state.digest = Shown(self.model, images, state.asked, self.per), digest
            state.encoded += 1
        shown = state.shown
        if reason := in_world(self.model, shown.encoded, record.asked).reason:
            raise ValueError(f"outside of what the model knows: {reason}")
        n, chosen = shown.choose(record.asked)
        runs = {ALL: None} | {name: kept for name, kept in chosen.items() if not isinstance(kept, ValueError)}
        came = {name: 1.0 if kept is None else came_to(kept, self.model.layers, n) for name, kept in runs.items()}
        names, said = list(runs), dict[str, Answer]()
        for batch in alike_batches([(max(1, round(came[name] * n)),) for name in names], TOGETHER):
            samples = [Sample(shown.encoded, record.asked, runs[names[i]], positions=self.positions) for i in batch]
            answers = self.model.answer_batch(samples, max_new_tokens=self.max_new_tokens)
            said.update(zip([names[i] for i in batch], answers, strict=True))
        state.model_seconds += time.perf_counter() - start
        state.answers += len(said)
        cells = {name: Cell(said[name].text, record.score(said[name].text), came[name]) for name in names}
        failed = {name: Cell(error=str(why)) for name, why in chosen.items() if isinstance(why, ValueError)}
        return n, {each.name: (cells | failed)[each.name] for each in state.asked}


class _State:
    """What goes from row to row: the settings that are asked, the sample that was encoded last, and sums."""

    def __init__(self, before: Progress, asked: Sequence[Setting]) -> None:
        self.asked = asked
        self.answers, self.encoded = before.answers, before.encoded
        self.seconds, self.model_seconds = before.seconds, before.model_seconds
        self.shown: Shown | None = None
        self.digest = ""

    def progress(self, done: int, errors: int) -> Progress:
        return Progress(done, errors, self.answers, self.seconds, self.model_seconds, self.encoded)


def _far(workers: Workers, plan: Manifest, rows: Iterable[Row], state: _State) -> Iterator[Result]:
    """Each row's result, from workers; times are of the wall here, and of the models there."""
    start = time.perf_counter()
    for block in workers.answered(plan, rows):
        state.answers, state.encoded = state.answers + block.answers, state.encoded + block.encoded
        state.model_seconds += block.model_seconds
        state.seconds += time.perf_counter() - start
        start = time.perf_counter()
        yield from block.results
