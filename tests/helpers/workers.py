"""How the files of tests are shared out among processes, so that no core waits.

A process that drives a browser, or starts programs, waits for a third of its time. So there is one process more than
cores: a patient one, which takes what time the others leave, and begins with the files that are the others' last.
"""

from __future__ import annotations

import os
from typing import Any

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


def settle_in(config: Any) -> None:
    """A patient process lets the others go first."""
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    if worker and hasattr(os, "nice") and is_patient(int(worker["workerid"].removeprefix("gw"))):
        os.nice(PATIENCE)
