"""`scenes`: accuracy of the methods on held-out pictures of each world, per question family."""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from pruning.encoding import EncodingMethod, encoded_by
from pruning.grids import Scope
from pruning.method import Method
from pruning.models import VLM
from pruning.scenes.benchmark import SIZES, Cell, run
from pruning.scenes.worlds import World
from pruning.staged import StagedMethod


def scenes(
    vlm: VLM,
    world: World,
    methods: Sequence[Method | StagedMethod | EncodingMethod],
    retentions: Sequence[float],
    count: int,
    per_family: int,
    per: Scope,
    progress: Callable[[int, int], None],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Accuracy on held-out pictures of `world`: a row for all tokens, then one per retention and method; and what is
    left out, why.

    `kept` is the share of the all-token accuracy that is left; None where that is 0. `difficult` and `simple` are the
    accuracy on the `difficult_questions` that lower resolution at the same retention gets wrong, and on the others;
    None where it is not asked, or there are none. Left out is what cannot come to a retention.
    """
    named = {method.name: method for method in methods}
    if per != "sample" and (inside := [m.name for m in methods if isinstance(m, StagedMethod)]):
        raise ValueError(f"per {per!r} is for methods before the language model: leave out {', '.join(inside)}")
    skip = _out_of_reach(vlm, methods, retentions, per)
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
            "difficult": _share(row.difficult),
            "simple": _share(row.simple),
            "difficult_questions": row.difficult[1] if row.difficult else None,
        }
        for row in rows
    ]
    return table, list(skip.values())


def _share(counts: tuple[int, int] | None) -> float | None:
    return counts[0] / counts[1] if counts and counts[1] else None


def _out_of_reach(
    vlm: VLM, methods: Sequence[Method | StagedMethod | EncodingMethod], retentions: Sequence[float], per: Scope
) -> dict[Cell, str]:
    """(method, retention) -> why it cannot be reached on the scene of the fewest tokens."""
    found: dict[Cell, str] = {}
    limited = [method for method in methods if not isinstance(method, Method)]
    if not limited:
        return found
    blanks = [Image.new("RGB", (width, height)) for height, width in SIZES]
    fewest, picture = min(((vlm.encode([blank]).tokens, blank) for blank in blanks), key=lambda pair: pair[0].n)
    for method in limited:
        for retention in retentions:
            try:
                if isinstance(method, StagedMethod):
                    method.schedule(fewest.n, vlm.layers, retention)
                else:
                    encoded_by(method, fewest, retention, per, lambda asked: vlm.encode([picture], asked=asked))
            except ValueError as error:
                found[method.name, retention] = f"{method.name} at {retention:g} is left out: {error}"
    return found
