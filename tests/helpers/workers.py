"""How the files of tests are shared out among processes, so that no core waits, and that times are those of the code.

A process that drives a browser, or starts programs, waits for a third of its time. So there is one process more than
cores: a patient one, which takes what time the others leave, and begins with the files that are the others' last.

A test that holds a time of the app to a bound is marked `alone`: while it is called, no other process calls one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PATIENCE = 10  # by how much the patient one is nicer


def is_patient(number: int) -> bool:
    """Of the process with this number, from 0."""
    return number >= CORES


class FromBothEnds(LoadFileScheduling):  # type: ignore[misc]
    """Files go out from the first on, but to patient processes from the last."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        if is_patient(int(str(node.gateway.id).removeprefix("gw"))):
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


class Turns:
    """Tests of several processes side by side, or one of them alone. folder: the same one in each process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._gate, self._room = (os.open(folder / name, os.O_CREAT | os.O_RDWR) for name in ("gate", "room"))

    @contextmanager
    def taken(self, *, alone: bool) -> Iterator[None]:
        """While one waits at the gate to be alone, nobody else comes in."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)


def turn(config: Any, *, alone: bool = False) -> Any:
    """A context for a part of a test, if other processes run tests of this run."""
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    if not worker or fcntl is None:
        return nullcontext()
    if not hasattr(config, "turns"):
        config.turns = Turns(config._tmp_path_factory.getbasetemp().parent / "turns")  # which all of them share
    return config.turns.taken(alone=alone)


def settle_in(config: Any) -> None:
    """A patient process lets the others go first."""
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    if worker and hasattr(os, "nice") and is_patient(int(worker["workerid"].removeprefix("gw"))):
        os.nice(PATIENCE)
