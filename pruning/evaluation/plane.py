"""The paper's plane: importance retention against Hopkins, for methods over λ and retention, and its front.

Geometry of the kept set alone: needs no language model. Every point is measured on the given sample.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from pruning.allocation import select_within
from pruning.budget import keep_count
from pruning.choosing import Asked, name_of, title_of
from pruning.encoding import ENCODING
from pruning.evaluation.metrics import hopkins_prefixes, importance_retention_prefixes
from pruning.grids import Scope, parts
from pruning.method import METHODS, Method, make
from pruning.params import SOURCE
from pruning.staged import STAGED, StagedMethod
from pruning.tokens import VisualTokens

LAMBDAS = tuple(step / 20 for step in range(21))
RETENTIONS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class PlanePoint:
    """One kept set. mmr_lambda is None for a method without that knob; hopkins is NaN where undefined (K = 1)."""

    method: str
    title: str
    mmr_lambda: float | None
    budget: int
    retention: float
    importance_retention: float
    hopkins: float


def plane_methods(importance: str = "scorer") -> tuple[Method, ...]:
    """The curves and reference strategies of the paper's figure: every method that takes its importance from a source,
    all from the same one, and every method that needs no signal and only selects; none that is for clips alone.
    """
    names = [name for name in METHODS if not METHODS[name].clips]
    sourced = [make(name, importance=importance) for name in names if METHODS[name].has(SOURCE)]
    others = [make(name) for name in names if not METHODS[name].has(SOURCE)]
    return (*sourced, *(method for method in others if not method.needs and not method.merges))


def slots(others: Iterable[str] = ()) -> dict[str, int]:
    """Method -> colour and marker on every chart: IDPruner's first, then those of the plane, then the rest, then those
    inside the language model, those before the tower, then `others`.

    Methods of one plane get colours that differ, however many others are registered.
    """
    plane = [method.name for method in plane_methods()]
    names = sorted(METHODS, key=lambda name: (name != "idpruner", name not in plane))
    names += [name for name in dict.fromkeys([*STAGED, *ENCODING, *others]) if name not in METHODS]
    return {name: place for place, name in enumerate(names)}


def plane_sweep(
    tokens: VisualTokens,
    importance: Tensor,
    methods: Sequence[Method],
    *,
    lambdas: Sequence[float] = LAMBDAS,
    retentions: Sequence[float] = RETENTIONS,
    per: Scope = "sample",
    seed: int = 0,
    cancel: threading.Event | None = None,
) -> list[PlanePoint]:
    """Every method at every retention, and at every λ where it has the knob `mmr_lambda`.

    importance (N,): by which all methods are judged, whatever they select by. per: what a budget is for. seed: of the
    Hopkins draw. A set `cancel` ends the sweep early with the points so far. Raises ValueError as `select_within` does.
    """
    undivided = len(parts(tokens.grids, per)) == 1
    points: list[PlanePoint] = []
    for method in _along_lambda(methods, lambdas):
        if cancel is not None and cancel.is_set():
            break
        if method.nested and undivided:
            budgets = [keep_count(tokens.n, retention) for retention in retentions]
            order = method.select(tokens, max(budgets)).order
            kept = importance_retention_prefixes(importance, order, budgets).tolist()
            spread = hopkins_prefixes(tokens.similarity, order, budgets, seed).tolist()
        else:
            orders = [select_within(method, tokens, retention, per).order for retention in retentions]
            budgets = [len(order) for order in orders]
            kept = [importance_retention_prefixes(importance, order, [len(order)]).item() for order in orders]
            spread = [hopkins_prefixes(tokens.similarity, order, [len(order)], seed).item() for order in orders]
        points += [
            PlanePoint(method.name, method.title, method.lambda_, *values)
            for values in zip(budgets, retentions, kept, spread, strict=True)
        ]
    return points


def survivors_point(
    asked: Asked, retention: float, budget: int, alive: Tensor, tokens: VisualTokens, importance: Tensor, seed: int = 0
) -> PlanePoint:
    """Where the tokens alive after the last cut of a plan lie: (K,) int64 `alive`, of the N.

    budget, retention: of the whole plan, as a curve has them; K is smaller. importance, seed: as for `plane_sweep`.
    """
    weight = asked.lambda_ if isinstance(asked, Method | StagedMethod) else None
    kept = importance_retention_prefixes(importance, alive, [len(alive)]).item()
    spread = hopkins_prefixes(tokens.similarity, alive, [len(alive)], seed).item()
    return PlanePoint(name_of(asked), title_of(asked), weight, budget, retention, kept, spread)


def nowhere(asked: Asked, retention: float, budget: int) -> PlanePoint:
    """For what has no place on the plane, since none of the tokens is kept: I and H are NaN."""
    return PlanePoint(name_of(asked), title_of(asked), None, budget, retention, math.nan, math.nan)


def front(points: Sequence[PlanePoint]) -> list[PlanePoint]:
    """The points that no other beats: none has more importance retention without a higher Hopkins statistic.

    In the order of falling importance retention; equal points stay together; undefined Hopkins values are left out.
    Give it points of one budget: across budgets the larger one nearly always wins.
    """
    ranked = sorted(
        (point for point in points if point.hopkins == point.hopkins),
        key=lambda point: (-point.importance_retention, point.hopkins),
    )
    kept: list[PlanePoint] = []
    for point in ranked:
        twin = kept and (point.importance_retention, point.hopkins) == (kept[-1].importance_retention, kept[-1].hopkins)
        if not kept or twin or point.hopkins < kept[-1].hopkins:
            kept.append(point)
    return kept


def _along_lambda(methods: Sequence[Method], lambdas: Sequence[float]) -> Iterator[Method]:
    for method in methods:
        if method.lambda_ is None:
            yield method
        else:
            yield from (method.at_lambda(value) for value in lambdas)
