"""`scenes`: accuracy of the methods on held-out pictures of each world, per question family."""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from pruning.grids import Scope
from pruning.method import Method
from pruning.models import VLM
from pruning.scenes.benchmark import SIZES, Cell, run
from pruning.scenes.worlds import World
from pruning.staged import StagedMethod


def scenes(
    vlm: VLM,
    world: World,
    methods: Sequence[Method | StagedMethod],
    retentions: Sequence[float],
    count: int,
    per_family: int,
    per: Scope,
    progress: Callable[[int, int], None],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Accuracy on held-out pictures of `world`: a row for all tokens, then one per retention and method; and what is
    left out, why.

    `kept` is the share of the all-token accuracy that is left; None where that is 0. Left out are staged methods at a
    retention that they cannot come to.
    """
    named = {method.name: method for method in methods}
    if per != "sample" and (inside := [m.name for m in methods if isinstance(m, StagedMethod)]):
        raise ValueError(f"per {per!r} is for methods before the language model: leave out {', '.join(inside)}")
    skip = _out_of_reach(vlm, methods, retentions)
    rows = run(
        vlm, named, retentions, scenes=count, per_family=per_family, per=per, skip=skip, progress=progress, world=world
    )
    whole = rows[0].accuracy
    table = [
        {
            "world": world.name,
            "method": row.method,
            "retention": row.retention,
            **{family: row.of(family) if row.asked[family] else None for family in world.families},
            "accuracy": row.accuracy,
            "kept": row.accuracy / whole if whole else None,
            "questions": sum(row.asked.values()),
        }
        for row in rows
    ]
    return table, list(skip.values())


def _out_of_reach(vlm: VLM, methods: Sequence[Method | StagedMethod], retentions: Sequence[float]) -> dict[Cell, str]:
    """(method, retention) -> why it cannot be reached on the scene of the fewest tokens."""
    found: dict[Cell, str] = {}
    staged = [method for method in methods if isinstance(method, StagedMethod)]
    if not staged:
        return found
    fewest = min(vlm.encode([Image.new("RGB", (width, height))]).tokens.n for height, width in SIZES)
    for method in staged:
        for retention in retentions:
            try:
                method.schedule(fewest, vlm.layers, retention)
            except ValueError as error:
                found[method.name, retention] = f"{method.name} at {retention:g} is left out: {error}"
    return found
