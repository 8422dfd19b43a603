"""`scenes`: accuracy of the methods on held-out pictures of each world, per question family."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from PIL import Image

from pruning.choosing import Asked, name_of, out_of_reach
from pruning.grids import Scope
from pruning.method import Method
from pruning.models import VLM
from pruning.models.values import Positions
from pruning.plan import Plan
from pruning.published import Published
from pruning.race.benchmark import Cell, run
from pruning.scenes.held_out import SIZES
from pruning.scenes.worlds import World


def scenes(
    vlm: VLM,
    world: World,
    methods: Sequence[Asked],
    retentions: Sequence[float],
    count: int,
    per_family: int,
    per: Scope,
    progress: Callable[[int, int], None],
    positions: Positions = "original",
) -> tuple[list[dict[str, Any]], list[str]]:
    """Accuracy on held-out pictures of `world`: a row for all tokens, then one per retention and method; and what is
    left out, why.

    `kept` is the share of the all-token accuracy that is left; None where that is 0. `difficult` and `simple` are the
    accuracy on the `difficult_questions` that lower resolution at the same retention gets wrong, and on the others;
    None where it is not asked, or there are none. Left out is what cannot come to a retention. Raises ValueError as
    `choose` does.
    """
    named = {name_of(method): method for method in methods}
    skip = _out_of_reach(vlm, named, retentions, per)
    rows = run(
        vlm,
        named,
        retentions,
        scenes=count,
        per_family=per_family,
        per=per,
        skip=skip,
        progress=progress,
        world=world,
        positions=positions,
    )
    whole = rows[0].accuracy
    table = [
        {
            "world": world.name,
            "method": row.method,
            "retention": row.retention,
            "positions": positions,
            **{family: row.of(family) if row.asked[family] else None for family in world.families},
            "accuracy": row.accuracy,
            "kept": row.accuracy / whole if whole else None,
            "questions": sum(row.asked.values()),
            "came_to": row.came_to,
            "difficult": _share(row.difficult),
            "simple": _share(row.simple),
            "difficult_questions": row.difficult[1] if row.difficult else None,
        }
        for row in rows
    ]
    return table, list(skip.values())


def _share(counts: tuple[int, int] | None) -> float | None:
    return counts[0] / counts[1] if counts and counts[1] else None


def _out_of_reach(vlm: VLM, named: Mapping[str, Asked], retentions: Sequence[float], per: Scope) -> dict[Cell, str]:
    """What cannot be reached on the scene of the fewest tokens, and why. ValueError for what is fixed and cannot be."""
    found: dict[Cell, str] = {}
    limited = {name: asked for name, asked in named.items() if not isinstance(asked, Method)}
    if not limited:
        return found
    blanks = [Image.new("RGB", (width, height)) for height, width in SIZES]
    fewest, blank = min(((vlm.encode([blank]).tokens.n, blank) for blank in blanks), key=lambda pair: pair[0])
    again = cache(lambda asked: vlm.encode([blank], asked=asked))
    for name, asked in limited.items():
        fixed = isinstance(asked, Published | Plan)
        for retention in retentions[:1] if fixed else retentions:
            reason = out_of_reach(asked, fewest, vlm.layers, retention, per, again)
            if reason and fixed:
                raise ValueError(reason)
            if reason:
                found[name, retention] = f"{name} at {retention:g} is left out: {reason}"
    return found
