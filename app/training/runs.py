"""The training runs under the operator's folder, read as they stand now. Knows neither models nor the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.pace import Pace
from pruning.training.runs import CURVE, Curve, Run, State


@dataclass(frozen=True)
class Listed:
    """A run as it stands now. name: its folder's. plan: its settings, empty where they cannot be read. modules: the
    steps whose module it keeps. problem: what is wrong with its files.
    """

    name: str
    state: State = "stopped"
    plan: Mapping[str, Any] = field(default_factory=dict)
    curve: Curve = field(default_factory=lambda: Curve(()))
    seconds: float = 0.0
    modules: tuple[int, ...] = ()
    problem: str = ""

    @property
    def steps(self) -> int:
        """Of the whole run; as many as are done, where nobody knows."""
        return int(self.plan.get("steps", self.curve.step))

    @property
    def pace(self) -> Pace:
        return Pace(self.seconds, self.curve.step, self.steps)


class Trainings:
    """Reads only: runs are started on the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Of the runs with a curve, the last one that was written to first."""
        try:
            found = [(path, path.stat().st_mtime) for path in self.folder.glob(f"*/{CURVE}")]
        except OSError:
            return []
        return [path.parent.name for path, _ in sorted(found, key=lambda each: each[1], reverse=True)]

    def run(self, name: object) -> Run:
        """Raises ValueError for what is no name of a run here."""
        if not isinstance(name, str) or name not in self.names():
            raise ValueError(f"there is no training run {name!r} any more: choose another")
        return Run(self.folder / name)

    def listed(self, name: str) -> Listed:
        """How it stands. Raises ValueError as `run`; a damaged one says so."""
        run, problems = self.run(name), list[str]()
        plan, curve = dict[str, Any](), Curve(())
        try:
            curve = run.curve()
            problems += [curve.problem] if curve.problem else []
            plan = run.plan
        except ValueError as error:
            problems.append(str(error))
        state = run.state(curve.step, plan.get("steps", curve.step))
        return Listed(name, state, plan, curve, run.seconds, tuple(run.modules), "; ".join(problems))
