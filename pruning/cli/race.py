"""`race`: methods, budgets and data sets side by side, resumable, with statistics."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pruning.choosing import Asked, name_of
from pruning.grids import Scope
from pruning.models import VLM, limit_threads, load
from pruning.models.values import Positions
from pruning.race.cluster import Workers
from pruning.race.data import DataSet, open_data
from pruning.race.folder import Run
from pruning.race.loop import Estimate, Race
from pruning.race.report import REPORT, stopped, write
from pruning.race.settings import Setting, settings_of

LEVEL = 0.05  # of dropping a setting wrongly, at each retention
# Options that workers load with.
LOADED = ("device", "dtype", "quantization", "attention", "device_map", "scorer", "pruner")
FAULTS = 5  # that are told one by one


def race(
    vlm: VLM,
    methods: Sequence[Asked],
    options: argparse.Namespace,
    tell: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Run or resume the race in the folder `options.out`, and write its report there; its table. Raises as `Race.run`;
    ValueError where nobody confirms.
    """
    data = open_data(
        options.data,
        metric=options.metric,
        limit=options.limit,
        scenes=options.scenes,
        columns=columns(options.columns),
        suffix=options.suffix,
        fps=options.fps,
        max_frames=options.max_frames,
    )
    settings = settings_of({name_of(method): method for method in methods}, options.retention)
    folder = Path(options.out)
    chosen = Race(
        vlm,
        options.model,
        data,
        settings,
        options.per,
        options.positions,
        options.max_new_tokens,
        LEVEL if options.until_told_apart else None,
    )
    workers = None
    if options.ray is not None:
        asked = (data, settings, options.per, options.positions, options.max_new_tokens)
        given = {name: getattr(options, name) for name in LOADED}
        workers = Workers(options.ray, partial(on_worker, options.model, given, *asked), options.workers)
    chosen.run(
        folder,
        lambda estimate: confirmed(estimate, str(vlm.device), options.yes, tell, workers.many if workers else None),
        progress,
        workers,
    )
    rows = write(Run(folder))
    for why in stopped(Run(folder)):
        tell(why)
    tell(f"written: {folder / REPORT}")
    return rows


def on_worker(
    source: str, given: Mapping[str, Any], data: DataSet, settings: Sequence[Setting], per: Scope,
    positions: Positions, max_new_tokens: int,
) -> Race:  # fmt: skip
    """The same race with a model of its own. given: options of `load`."""
    vlm = load(source, **given)
    limit_threads(vlm)
    return Race(vlm, source, data, settings, per, positions, max_new_tokens)


def columns(given: Sequence[str] | None) -> dict[str, str] | None:
    """ "answers=label" -> {"answers": "label"}. ValueError for what has no equals sign."""
    if wrong := [each for each in given or () if not all(each.partition("=")[::2])]:
        raise ValueError(f"--columns {wrong[0]!r} is not allowed: write FIELD=COLUMN, such as answers=label")
    return None if given is None else dict(each.split("=", 1) for each in given)


def confirmed(
    estimate: Estimate, device: str, yes: bool, tell: Callable[[str], None], workers: int | None = None
) -> bool:
    """Tell what is to be done, on this device and on so many workers like it, and whether to do it. ValueError where
    nobody confirms.
    """
    for fault in estimate.faults[:FAULTS]:
        tell(f"row {fault.row} cannot be asked: {fault.reason}")
    if len(estimate.faults) > FAULTS:
        tell(f"{len(estimate.faults) - FAULTS} more rows cannot be asked: results.jsonl will say why")
    tell(estimate.words(device, workers))
    if yes or not estimate.rows:
        return True
    if not sys.stdin.isatty():
        raise ValueError("nobody can confirm this here: give --yes to start")
    sys.stderr.write("start? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ValueError("not started: confirm with y, or give --yes")
    return True
