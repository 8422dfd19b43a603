from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from pruning import Method, Selection, make
from pruning.encoding import OutOfReachError, make_encoding
from pruning.evaluation.fidelity import fidelity_sweep
from pruning.evaluation.metrics import fidelity
from pruning.models import VLM
from pruning.plan import parse_plan, plan_of
from pruning.published import PUBLISHED
from pruning.staged import make_staged
from tests.helpers.samples import features, sample, tiles

RETENTIONS = (0.1, 0.25, 0.5, 1.0)
ANSWER = SimpleNamespace(text="a star", ids=[3, 1])


class FakeModel:
    """A language model whose answer depends on the kept set in a known way, and which counts what it is asked."""

    layers = 8

    def __init__(self, n: int = 40) -> None:
        self.sample = sample(n)
        self.batches: list[list[int]] = []
        self.needs: frozenset[str] = frozenset()
        self.answers = 0

    def tokens(self, encoded, question, needs):
        self.needs = needs
        return self.sample

    def answer(self, encoded, question, kept, *, cancel=None):
        assert kept is None
        self.answers += 1
        return ANSWER

    def logprobs(self, encoded, question, answer_ids, selections, *, positions="original"):
        assert list(answer_ids) == [3, 1]
        self.positions = positions
        budgets = [self.sample.n if chosen is None else chosen.k for chosen in selections]
        assert len(set(budgets)) == 1, "one batch, one budget"
        self.batches.append(budgets)
        return [(self.rows(chosen).mean(dim=0) * torch.ones(2, 1)).log_softmax(dim=1) for chosen in selections]

    def rows(self, chosen: Selection | None) -> torch.Tensor:
        """What is said depends on where the kept tokens lie and, where some were merged, on the merged rows."""
        table = features(self.sample.n, 12, seed=9)
        if chosen is None:
            return table
        return table[chosen.indices] + (0 if chosen.merged is None else chosen.merged)


METHODS = tuple(make(name) for name in ("idpruner", "vision_selector", "greedy_importance", "naive_hybrid", "uniform"))


def test_fidelity_sweep_measures_every_method_at_every_retention():
    model = FakeModel()
    points = list(fidelity_sweep(model, "image", "what?", METHODS, RETENTIONS))
    assert [(p.retention, p.method) for p in points] == list(
        itertools.product(RETENTIONS, [method.name for method in METHODS])
    )
    assert model.needs == {"scorer"}
    everything = model.logprobs("image", "what?", [3, 1], [None])[0]
    for p in points:
        kept = make(p.method).select(model.sample, p.budget)
        pruned = model.logprobs("image", "what?", [3, 1], [kept])[0]
        expected = torch.exp(-(everything.exp() * (everything - pruned)).sum(1).mean()).item()
        assert p.fidelity == pytest.approx(expected, abs=1e-6)
        assert p.mmr_lambda == (0.5 if p.method in ("idpruner", "naive_hybrid") else None)


def test_fidelity_sweep_runs_one_batch_per_budget_and_equal_sets_once():
    model = FakeModel()
    list(fidelity_sweep(model, "image", "what?", METHODS, (1.0, 0.25, 0.5), answer=ANSWER))
    assert model.answers == 0
    # All tokens once; then 4 different sets of 5 methods (two are the same top-k); retention 1.0 is the reference.
    assert model.batches == [[40], [10] * 4, [20] * 4]


def test_fidelity_sweep_gives_every_tile_its_own_budget():
    model, kept = FakeModel(), []
    model.sample = sample(40, grids=tiles(40))

    def logprobs(encoded, question, answer_ids, selections, **where):
        kept.extend(chosen for chosen in selections if chosen is not None)
        return FakeModel.logprobs(model, encoded, question, answer_ids, selections, **where)

    model.logprobs = logprobs
    methods = (make("idpruner"), make("divprune"))
    points = list(fidelity_sweep(model, "image", "what?", methods, (0.3, 0.1), per="tile"))
    assert [(p.retention, p.budget) for p in points] == [(0.1, 5), (0.1, 5), (0.3, 10), (0.3, 10)]
    assert [(chosen.indices // 8).bincount().tolist() for chosen in kept] == [[1] * 5] * 2 + [[2] * 5] * 2


def test_fidelity_sweep_splits_batches():
    model = FakeModel()
    points = list(fidelity_sweep(model, "image", "what?", METHODS, (0.25,), max_batch=3))
    assert model.batches == [[40], [10] * 3, [10]]
    assert len(points) == len(METHODS)


def test_fidelity_sweep_selects_nested_methods_once(monkeypatch):
    asked = []
    select = Method.select

    def counted(self, tokens, budget):
        asked.append(self.name)
        return select(self, tokens, budget)

    monkeypatch.setattr(Method, "select", counted)
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
        list(fidelity_sweep(FakeModel(), "image", "what?", METHODS, answer=SimpleNamespace(text=" ", ids=[1])))
    with pytest.raises(ValueError, match="at most 1"):
        list(fidelity_sweep(FakeModel(), "image", "what?", METHODS, (1.5,)))


@dataclass(frozen=True)
class First(Method):
    """The first tokens, as they are."""

    name: ClassVar[str] = "first"
    title: ClassVar[str] = "First"

    def pick(self, tokens, budget):
        return Selection(torch.arange(budget), tokens.n)


@dataclass(frozen=True)
class Folded(Method):
    """The first tokens; the others go into the first one."""

    name: ClassVar[str] = "folded"
    title: ClassVar[str] = "Folded"
    nested: ClassVar[bool] = False
    merges: ClassVar[bool] = True

    def pick(self, tokens, budget):
        into = torch.arange(tokens.n) * (torch.arange(tokens.n) < budget)
        rows = tokens.features[:budget].clone()
        rows[0] = tokens.features[into == 0].mean(dim=0)
        return Selection(torch.arange(budget), tokens.n, merge_into=into, rows=rows)


def test_merged_rows_reach_the_model_and_are_no_duplicate_of_the_same_kept_set():
    model = FakeModel()
    points = list(fidelity_sweep(model, "image", "what?", (First(), Folded(), First()), (0.25,), answer=ANSWER))
    assert model.batches == [[40], [10, 10]]
    assert points[0].fidelity == points[2].fidelity != points[1].fidelity
    full, *pruned = (
        model.logprobs("image", "what?", [3, 1], [kept])[0]
        for kept in (None, *(method.select(model.sample, 10) for method in (First(), Folded())))
    )
    for point, after in zip(points, pruned, strict=False):
        assert point.fidelity == pytest.approx(fidelity(full, after))


def test_methods_between_layers_stand_beside_the_others(tiny_vlm: VLM, noise) -> None:
    encoded, question = tiny_vlm.encode([noise(224, 168)]), "What color is the star?"
    n, answer = encoded.tokens.n, tiny_vlm.answer(encoded, question, max_new_tokens=3)
    plan = parse_plan("pre:uniform:0.5,1:random_inner:4")
    asked = [make("uniform"), make_staged("fastv"), PUBLISHED["fastv-published"], plan, make_staged("dart")]
    points = list(fidelity_sweep(tiny_vlm, encoded, question, asked, (0.75, 0.1, 1.0), answer=answer))
    assert [(p.method, p.retention, p.budget) for p in points] == [
        ("uniform", 0.1, round(0.1 * n)),
        (str(plan), (n // 2 + 4) / (2 * n), round((n // 2 + 4) / 2)),
        *((name, 0.75, 3 * n // 4) for name in ("uniform", "fastv", "fastv-published", "dart")),
        *((name, 1.0, n) for name in ("uniform", "fastv", "dart")),
    ]
    full, fastv, mixed = tiny_vlm.logprobs(
        encoded, question, answer.ids, [None, plan_of(make_staged("fastv"), n, 2, 0.75), plan]
    )
    found = {(p.method, p.retention): p.fidelity for p in points}
    assert found["fastv", 0.75] == found["fastv-published", 0.75] == pytest.approx(fidelity(full, fastv))
    assert found[str(plan), (n // 2 + 4) / (2 * n)] == pytest.approx(fidelity(full, mixed))
    assert found["dart", 1.0] == fidelity(full, full)


def test_plans_that_are_the_same_run_once(tiny_vlm: VLM, noise, monkeypatch) -> None:
    encoded, asked, run = tiny_vlm.encode([noise(224, 168)]), list[int](), tiny_vlm.logprobs
    monkeypatch.setattr(tiny_vlm, "logprobs", lambda *v, **where: asked.append(len(v[3])) or run(*v, **where))
    methods = [make_staged("fastv"), PUBLISHED["fastv-published"]]
    points = list(fidelity_sweep(tiny_vlm, encoded, "why?", methods, (0.75, 1.0), answer=ANSWER))
    assert [p.method for p in points] == ["fastv", "fastv-published", "fastv"]
    assert asked == [1, 1], "the reference, the plan; all tokens are the reference"


def test_other_encodings_are_points_of_the_curves_where_they_can_be_made():
    model, asked = FakeModel(), []

    def again(encoding):
        asked.append(encoding.most)
        if encoding.most < 10:
            raise OutOfReachError("too few")
        return SimpleNamespace(
            tokens=sample(encoding.most - 1), k=encoding.most, indices=torch.arange(encoding.most - 1), merged=None
        )

    lower, kept = make_encoding("lower_resolution"), make("uniform")
    points = list(fidelity_sweep(model, "image", "what?", [lower, kept], (0.1, 0.25, 1.0), again=again))
    assert asked == [4, 10, 40]
    told = [(p.method, p.retention, p.budget, p.mmr_lambda) for p in points]
    assert told == [
        ("uniform", 0.1, 4, None), ("lower_resolution", 0.25, 9, None), ("uniform", 0.25, 10, None),
        ("lower_resolution", 1.0, 39, None), ("uniform", 1.0, 40, None),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="Lower resolution asks for another encoding"):
        list(fidelity_sweep(model, "image", "what?", [lower], (0.25,)))
