from __future__ import annotations

import itertools
import math
import threading
from types import SimpleNamespace

import pytest
import torch

from pruning import make, pareto
from pruning.metrics import hopkins, importance_retention
from pruning.pareto import PlanePoint, fidelity_sweep, front, plane_methods, plane_sweep
from tests import oracles
from tests.samples import features, sample

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


def test_plane_methods_share_the_importance_source():
    tokens = sample(30)
    points = plane_sweep(tokens, tokens.features.norm(dim=1), plane_methods("feature_norm"), lambdas=(1.0,))
    best = {p.retention: p.importance_retention for p in points if p.method == "greedy_importance"}
    assert all(p.importance_retention <= best[p.retention] + 1e-9 for p in points)


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


class FakeModel:
    """A language model whose answer depends on the kept set in a known way, and which counts what it is asked."""

    def __init__(self, n: int = 40) -> None:
        self.sample = sample(n)
        self.batches: list[list[int]] = []
        self.needs: frozenset[str] = frozenset()
        self.answers = 0

    def tokens(self, encoded, question, needs):
        self.needs = needs
        return self.sample

    def answer(self, encoded, question, indices, *, cancel=None):
        assert indices is None
        self.answers += 1
        return SimpleNamespace(ids=[3, 1])

    def logprobs(self, encoded, question, answer_ids, selections):
        assert list(answer_ids) == [3, 1]
        assert len({len(chosen) for chosen in selections}) == 1, "one batch, one budget"
        assert all(torch.equal(chosen, chosen.sort().values) for chosen in selections)
        self.batches.append([len(chosen) for chosen in selections])
        table = features(self.sample.n, 7, seed=9)
        return [(table[chosen].mean(dim=0) * torch.ones(2, 1)).log_softmax(dim=1) for chosen in selections]


METHODS = tuple(make(name) for name in ("idpruner", "vision_selector", "greedy_importance", "naive_hybrid", "uniform"))


def test_fidelity_sweep_measures_every_method_at_every_retention():
    model = FakeModel()
    points = list(fidelity_sweep(model, "image", "what?", METHODS, RETENTIONS))
    assert [(p.retention, p.method) for p in points] == list(
        itertools.product(RETENTIONS, [method.name for method in METHODS])
    )
    assert model.needs == {"scorer"}
    everything = model.logprobs("image", "what?", [3, 1], [torch.arange(40)])[0]
    for p in points:
        kept = make(p.method).select(model.sample, p.budget).indices
        pruned = model.logprobs("image", "what?", [3, 1], [kept])[0]
        expected = torch.exp(-(everything.exp() * (everything - pruned)).sum(1).mean()).item()
        assert p.fidelity == pytest.approx(expected, abs=1e-6)
        assert p.mmr_lambda == (0.5 if p.method in ("idpruner", "naive_hybrid") else None)


def test_fidelity_sweep_runs_one_batch_per_budget_and_equal_sets_once():
    model = FakeModel()
    list(fidelity_sweep(model, "image", "what?", METHODS, (1.0, 0.25, 0.5), answer_ids=[3, 1]))
    assert model.answers == 0
    # All tokens once; then 4 different sets of 5 methods (two are the same top-k); retention 1.0 is the reference.
    assert model.batches == [[40], [10] * 4, [20] * 4]


def test_fidelity_sweep_splits_batches():
    model = FakeModel()
    points = list(fidelity_sweep(model, "image", "what?", METHODS, (0.25,), max_batch=3))
    assert model.batches == [[40], [10] * 3, [10]]
    assert len(points) == len(METHODS)


def test_fidelity_sweep_selects_nested_methods_once(monkeypatch):
    asked = []
    select = pareto.Method.select

    def counted(self, tokens, budget):
        asked.append(self.name)
        return select(self, tokens, budget)

    monkeypatch.setattr(pareto.Method, "select", counted)
    list(fidelity_sweep(FakeModel(), "image", "what?", METHODS, RETENTIONS))
    assert {name: asked.count(name) for name in asked} == {
        "idpruner": 1,
        "vision_selector": 1,
        "greedy_importance": 1,
        "naive_hybrid": 4,
        "uniform": 4,
    }


def test_fidelity_sweep_yields_before_it_goes_on_and_stops_when_cancelled():
    model, cancel = FakeModel(), threading.Event()
    points = fidelity_sweep(model, "image", "what?", METHODS, RETENTIONS, cancel=cancel)
    assert next(points).budget == 4
    assert len(model.batches) == 2
    cancel.set()
    assert {p.budget for p in points} == {4}
    assert len(model.batches) == 2


def test_fidelity_sweep_cancelled_before_its_start_measures_nothing():
    model, cancel = FakeModel(), threading.Event()
    cancel.set()
    assert list(fidelity_sweep(model, "image", "what?", METHODS, RETENTIONS, cancel=cancel)) == []
    assert model.batches == []


def test_fidelity_sweep_without_methods_or_answer():
    assert list(fidelity_sweep(FakeModel(), "image", "what?", [])) == []
    with pytest.raises(ValueError, match="ask another question"):
        list(fidelity_sweep(FakeModel(), "image", "what?", METHODS, answer_ids=[]))
    with pytest.raises(ValueError, match="at most 1"):
        list(fidelity_sweep(FakeModel(), "image", "what?", METHODS, (1.5,)))
