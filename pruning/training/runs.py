"""A run of `fit` on disk: read at any time, also while another process writes it, and held by the one at work.

plan.json      everything that its result depends on (`fit.Plan`)
curve.jsonl    a line per checkpoint: {"step", the mean of every loss since the last one, "held_out": answered right
               on the budget, "held_out@SHARE": on another share of the tokens}
progress.json  {"seconds"}: of work until the last line, over all its starts
lock           held by the process at work; the system frees it when that ends, however it ends
NAME.pt        module and optimiser of the last checkpoint; NAME.safetensors: the module as it is handed on
steps/STEP/    the module as it was after so many steps, of at most KEPT checkpoints, the last one among them
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from pruning.race.folder import LOCK, PROGRESS, held, replace_file

PLAN, CURVE, STEPS = "plan.json", "curve.jsonl", "steps"
KEPT = 16  # a module may have 20 MB, and a run hundreds of checkpoints
HELD_OUT = "held_out"
REMEDY = "remove it, and what is right is shown"
State = Literal["running", "stopped", "done"]


@dataclass(frozen=True)
class Point:
    """A line of the curve. losses: by name. held_out: share of the held-out questions answered right, by
    the share of the tokens that is kept, as it is written; "": the run's own budget.
    """

    step: int
    losses: Mapping[str, float]
    held_out: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """Its points by step, and what is wrong with lines that are none; "" where all are right."""

    points: tuple[Point, ...]
    problem: str = ""

    @property
    def step(self) -> int:
        """Steps until the last checkpoint."""
        return self.points[-1].step if self.points else 0


class Run:
    """A run's folder. Raises ValueError, naming file, fault and remedy, for what cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def plan(self) -> dict[str, Any]:
        """As `plan.json` has it; `steps` is a whole number of at least 1, `seed` one of at least 0."""
        file = self.path / PLAN
        try:
            told = json.loads(file.read_bytes())
            if not isinstance(told, dict):
                raise ValueError("it is no object")
            for name, least in (("steps", 1), ("seed", 0)):
                if type(told.get(name)) is not int or told[name] < least:
                    raise ValueError(f"{name} is {told.get(name)!r}: it must be a whole number of at least {least}")
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{file} cannot be read ({error}): train anew into another folder") from error
        return told

    def curve(self) -> Curve:
        """What stands there now; a last line that is being written is left out."""
        file = self.path / CURVE
        try:
            *lines, _ = file.read_bytes().split(b"\n")
        except OSError as error:
            raise ValueError(f"{file} cannot be read ({error.strerror}): choose another run") from error
        points, wrong = list[Point](), list[str]()
        for number, line in enumerate(lines, 1):
            try:
                points.append(_point(line, points[-1].step if points else 0))
            except ValueError as error:
                wrong.append(f"{CURVE}, line {number}: {error}: {REMEDY}")
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        return Curve(tuple(points), f"{wrong[0]}{more}" if wrong else "")

    @property
    def seconds(self) -> float:
        """Of work until the last checkpoint; 0 where nobody knows."""
        try:
            seconds = float(json.loads((self.path / PROGRESS).read_bytes())["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0
        return seconds if math.isfinite(seconds) else 0.0

    def note(self, seconds: float) -> None:
        """Write `seconds`."""
        replace_file(self.path / PROGRESS, json.dumps({"seconds": round(seconds, 3)}).encode(), sync=False)

    @property
    def modules(self) -> dict[int, Path]:
        """Steps -> the folder of the module as it was then, ascending; none of a run that kept none.

        A module's settings are written last: without them it is still being written, or its run was broken off.
        """
        found = {int(file.parent.name): file.parent for file in (self.path / STEPS).glob("*/*.json")
                 if file.parent.name.isdecimal()}  # fmt: skip
        return dict(sorted(found.items()))

    def room(self, step: int) -> Path:
        """A folder for the module as it is after so many steps. Of too many, one goes whose neighbours are closest."""
        steps = sorted({*self.modules, step})
        while len(steps) > KEPT:
            _, at = min((steps[at + 1] - steps[at - 1], at) for at in range(1, len(steps) - 1))
            shutil.rmtree(self.path / STEPS / str(steps.pop(at)))
        path = self.path / STEPS / str(step)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def state(self, step: int, steps: int) -> State:
        """running: a process holds the lock; else done or stopped, by how far it came."""
        if held(self.path / LOCK):
            return "running"
        return "done" if step >= steps else "stopped"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The one process that trains here, whose folder is there. Raises ValueError where another one does."""
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=1)  # whoever asks for the state holds it for a moment
        except Timeout as error:
            raise ValueError(
                f"another process trains in {self.path}: wait for its end, or name another folder with --out"
            ) from error
        try:
            yield
        finally:
            lock.release()


def _point(line: bytes, before: int) -> Point:
    """Raises ValueError for a line that is none, or not of a later step than the one before."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(told, dict):
        raise ValueError("it is no object")
    step = told.pop("step", None)
    if type(step) is not int or step <= before:
        raise ValueError(f"step is {step!r}: it must be a whole number above {before}")
    for name, value in told.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}: it must be a number")
    scores = {name: told.pop(name) for name in list(told) if name.partition("@")[0] == HELD_OUT}
    return Point(step, told, {name.partition("@")[2]: score for name, score in scores.items()})
