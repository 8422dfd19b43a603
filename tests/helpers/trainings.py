"""Training runs whose curve is known, with the shipped model's own module as the last checkpoint."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pruning.models.checkpoint.sources import SHIPPED
from pruning.training.pruners import PrunerPlan
from pruning.training.records import Record
from pruning.training.runs import CURVE, PLAN, Run

POINTS = [
    {"step": 25, "guidance": 3.03, "held_out": 0.75, "held_out@0.1": 0.5},
    {"step": 50, "guidance": 1.55, "held_out": 0.875, "held_out@0.1": 0.640625},
    {"step": 75, "loss": 0.31, "binary": 0.25, "held_out": 0.953125, "held_out@0.1": 0.8125},
    {"step": 100, "loss": 0.09, "binary": 0.2, "held_out": 0.9375, "held_out@0.1": 0.796875},
]


@contextmanager
def interrupted(place: Any, after: int) -> Iterator[None]:
    """A training run is broken off once the losses of so many records are found. place: what has `losses`."""
    plain, calls = place.losses, list[object]()

    def stop(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return plain(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "losses", stop)
        with pytest.raises(KeyboardInterrupt):
            yield


def trained(folder: Path, method: str = "covipal", points: int = len(POINTS)) -> Run:
    """A run of 100 steps that came so far, in 12 s; how its module stood before is not kept."""
    folder.mkdir(parents=True)
    plan = PrunerPlan("scenes", "scenes", 100, method=method)
    (folder / PLAN).write_text(json.dumps(asdict(plan)))
    (folder / CURVE).write_text("".join(f"{json.dumps(line)}\n" for line in POINTS[:points]))
    for name in (f"{method}.safetensors", f"{method}.json"):
        shutil.copy(SHIPPED / name, folder / name)
    run = Run(folder)
    run.note(12.0)
    return run


def keep(run: Run, step: int) -> Path:
    """The run's module as that after so many steps: its folder."""
    room = run.room(step)
    for file in run.path.glob("*.safetensors"):
        shutil.copy(file, room)
        shutil.copy(file.with_suffix(".json"), room)
    return room


class Same:
    """One record again and again."""

    title, size = "same", None

    def __init__(self, noise: Callable[..., Image.Image]) -> None:
        self.image = noise(112, 84)

    def at(self, place: int) -> Record:
        return Record("a record", "what color is the star?", "red", lambda: self.image)
