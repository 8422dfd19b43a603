"""The race on many machines: Ray actors, each with a model of its own, answer what one process here reads and writes.

The rows about one picture go to one actor together, so that it is encoded once there too; few are under way at any
time. An actor that dies is started anew, and what it was at is asked again: a row has its result once, as this process
alone writes results. Needs `pip install "idpruner-lab[race]"`, also on the machines of the cluster, and the data set's
pictures under the same path there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from pruning.race.folder import Manifest, Result
from pruning.race.records import Fault, Record

if TYPE_CHECKING:
    from pruning.race.loop import Race

LOCAL: Final = "local"
WORKERS: Final = 2  # where no machine has a GPU
UNDER_WAY: Final = 2  # blocks of rows for each worker
Row = tuple[Record | Fault, str]


@dataclass(frozen=True)
class Answered:
    """What a worker gives back of a block: results, and what it took."""

    results: list[Result]
    answers: int
    encoded: int
    model_seconds: float


@dataclass(frozen=True)
class Workers:
    """address: of a cluster, or "local" for one of this machine. many: actors, None = one for each GPU of the cluster,
    WORKERS where there is none. make: a race with a model loaded, on a worker. Raises ValueError for fewer than one.
    """

    address: str
    make: Callable[[], Race]
    many: int | None = None

    def __post_init__(self) -> None:
        if self.many is not None and self.many < 1:
            raise ValueError(f"{self.many} workers answer nothing: allow at least 1")

    def answered(self, plan: Manifest, rows: Iterable[Row]) -> Iterator[Answered]:
        """Every row's result, in any order. plan: of this process; a worker with another dtype, kernel or revision is
        refused.

        Raises ValueError without Ray, where no cluster answers, and for a worker that would answer otherwise.
        """
        ray = _ray()
        try:
            ray.init(None if self.address == LOCAL else self.address, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"no Ray cluster answers at {self.address!r} ({error}): start one, or --ray local"
            ) from error
        try:
            yield from self._answered(ray, plan, rows)
        finally:
            ray.shutdown()

    def _answered(self, ray: Any, plan: Manifest, rows: Iterable[Row]) -> Iterator[Answered]:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        options = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        actor = ray.remote(_Worker).options(**options, max_restarts=-1, max_task_retries=-1)
        actors = [actor.remote(self.make) for _ in range(self.many or gpus or WORKERS)]
        for identity in ray.get([each.identity.remote() for each in actors]):
            _check(plan.identity, identity)
        blocks, busy = _blocks(rows), dict[Any, Any]()
        idle = [each for each in actors for _ in range(UNDER_WAY)]
        while True:
            while idle and (block := next(blocks, None)) is not None:
                worker = idle.pop()
                busy[worker.answer.remote(block)] = worker
            if not busy:
                return
            (ready,), _ = ray.wait(list(busy), num_returns=1)
            idle.append(busy.pop(ready))
            yield ray.get(ready)


class _Worker:
    """An actor: one model, one block of rows at a time."""

    def __init__(self, make: Callable[[], Race]) -> None:
        self._race = make()

    def identity(self) -> Mapping[str, Any]:
        return self._race.manifest(0, 0).identity

    def answer(self, block: list[Row]) -> Answered:
        return self._race.answer(block)


def _blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows about one picture that follow each other."""
    for _, block in groupby(rows, lambda row: row[0].picture if isinstance(row[0], Record) else None):
        yield list(block)


def _check(mine: Mapping[str, Any], its: Mapping[str, Any]) -> None:
    for name, value in mine["how"].items():
        if its["how"][name] != value:
            raise ValueError(f"the workers have {name} {its['how'][name]}, this machine {value}: name it, as --{name}")
    if mine["revision"] != its["revision"]:
        raise ValueError("the workers have another revision of the model: give all machines the same files")


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ValueError('--ray needs Ray: pip install "idpruner-lab[race]", or leave it out') from error
