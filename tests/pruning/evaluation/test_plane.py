from __future__ import annotations

import itertools
import math
import threading

import pytest
import torch

from pruning import METHODS, make
from pruning.allocation import select_within
from pruning.encoding import ENCODING
from pruning.evaluation.metrics import hopkins, importance_retention
from pruning.evaluation.plane import PlanePoint, front, plane_methods, plane_sweep, slots
from pruning.staged import STAGED
from tests.helpers import oracles
from tests.helpers.samples import sample, tiles

RETENTIONS = (0.1, 0.25, 0.5, 1.0)


def test_plane_points_are_what_select_and_the_metrics_give():
    tokens = sample(60)
    importance = tokens.signal("scorer")
    lambdas = (0.0, 0.5, 1.0)
    points = plane_sweep(tokens, importance, plane_methods(), lambdas=lambdas, retentions=RETENTIONS, seed=2)
    swept = {point.method: point.mmr_lambda for point in points if point.mmr_lambda is not None}
    assert set(swept) == {"idpruner", "naive_hybrid"}
    assert len(points) == (2 * len(lambdas) + len(plane_methods()) - 2) * len(RETENTIONS)
    for point in points:
        knobs = {} if point.mmr_lambda is None else {"mmr_lambda": point.mmr_lambda}
        selection = make(point.method, **knobs).select(tokens, point.budget)
        assert point.importance_retention == pytest.approx(importance_retention(importance, selection.order))
        assert point.hopkins == pytest.approx(hopkins(tokens.similarity, selection.order, 2), nan_ok=True)
        assert point.title == make(point.method).title
        assert point.budget == round(60 * point.retention)


@pytest.mark.parametrize("per", ["image", "tile"])
def test_plane_points_of_budgets_for_parts_are_what_those_keep(per):
    tokens = sample(61, grids=tiles(61))
    importance = tokens.signal("scorer")
    methods = [make("divprune"), make("uniform")]
    points = plane_sweep(tokens, importance, methods, retentions=(0.1, 0.5), per=per)
    assert [(point.method, point.retention) for point in points] == [
        *itertools.product(["divprune", "uniform"], [0.1, 0.5])
    ]
    for point in points:
        order = select_within(make(point.method), tokens, point.retention, per).order
        assert point.budget == len(order)
        assert point.importance_retention == pytest.approx(importance_retention(importance, order))
        assert point.hopkins == pytest.approx(hopkins(tokens.similarity, order, 0))


def test_plane_methods_share_the_importance_source():
    tokens = sample(30)
    points = plane_sweep(tokens, tokens.features.norm(dim=1), plane_methods("feature_norm"), lambdas=(1.0,))
    best = {p.retention: p.importance_retention for p in points if p.method == "greedy_importance"}
    assert all(p.importance_retention <= best[p.retention] + 1e-9 for p in points)


def test_the_plane_holds_the_paper_s_strategies_and_whatever_needs_no_signal():
    names = [method.name for method in plane_methods()]
    assert {"idpruner", "naive_hybrid", "dpp", "greedy_importance"} <= set(names)
    assert {"greedy_diversity", "divprune", "random", "uniform"} <= set(names)
    assert all(not method.merges and not method.clips for method in plane_methods())
    assert all(not make(name).needs - {"scorer"} for name in names)
    assert len(names) == len(set(names))


def test_methods_of_the_plane_come_first_among_the_colours():
    places = slots()
    assert sorted(places.values()) == list(range(len(METHODS) + len(STAGED) + len(ENCODING)))
    assert slots(["1:fastv:0.5", "fastv"]) == {**places, "1:fastv:0.5": len(places)}
    assert places["idpruner"] == 0
    plane = {places[method.name] for method in plane_methods()}
    assert plane == set(range(len(plane)))


def test_plane_sweep_stops_when_cancelled():
    tokens = sample(30)
    cancel = threading.Event()
    cancel.set()
    assert plane_sweep(tokens, tokens.signal("scorer"), plane_methods(), cancel=cancel) == []


def point(importance: float, spread: float) -> PlanePoint:
    return PlanePoint("m", "M", None, 5, 0.5, importance, spread)


def test_front_is_what_no_other_point_beats():
    grid = [round(v * 0.25, 2) for v in range(5)]
    generator = torch.Generator().manual_seed(0)
    every = list(itertools.product(grid, [*grid, math.nan]))
    for _ in range(40):
        chosen = [every[i] for i in torch.randint(len(every), (12,), generator=generator)]
        expected = sorted(chosen[i] for i in oracles.non_dominated(chosen))
        assert sorted((p.importance_retention, p.hopkins) for p in front([point(*pair) for pair in chosen])) == expected
    assert front([]) == []
