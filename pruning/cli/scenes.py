"""`scenes`: accuracy of the methods on held-out pictures of each world, per question family."""

from collections.abc import Callable, Sequence
from typing import Any

from pruning.grids import Scope
from pruning.method import Method
from pruning.models import VLM
from pruning.scenes.benchmark import run
from pruning.scenes.worlds import World


def scenes(
    vlm: VLM,
    world: World,
    methods: Sequence[Method],
    retentions: Sequence[float],
    count: int,
    per_family: int,
    per: Scope,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Accuracy on held-out pictures of `world`: a row for all tokens, then one per retention and method.

    `kept` is the share of the all-token accuracy that is left; None where that is 0.
    """
    named = {method.name: method for method in methods}
    rows = run(vlm, named, retentions, scenes=count, per_family=per_family, per=per, progress=progress, world=world)
    whole = rows[0].accuracy
    return [
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
