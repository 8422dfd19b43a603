"""What every registered method promises, with its default knobs and at both ends of every knob."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pruning import METHODS, Grid, Method, VisualTokens, make
from pruning.params import params
from tests.samples import features, sample, signals

# Methods whose picks follow the token and not its place. The others say why.
BOUND_TO_PLACES = {"random": "draws places", "uniform": "spreads places"}


def settings_of(name: str) -> list[Method]:
    """The default, and each knob alone at every choice or at both limits."""
    found = {make(name)}
    for param in params(METHODS[name]):
        values = param.choices if param.kind == "choice" else (param.lo, param.hi)
        found |= {make(name, **{param.name: value}) for value in values}
    return sorted(found, key=repr)


ALL = [pytest.param(method, id=repr(method)) for name in sorted(METHODS) for method in settings_of(name)]
every_method = pytest.mark.parametrize("method", ALL)


@every_method
def test_declares_what_a_reader_needs(method):
    cls = type(method)
    assert METHODS[cls.name] is cls
    assert cls.title
    assert cls.__doc__
    assert not cls.paper or (cls.paper.startswith("https://arxiv.org/abs/") and cls.paper in cls.__doc__)
    assert cls.stage in ("pre_llm", "in_llm")
    assert isinstance(method.needs, frozenset)
    assert dataclasses.replace(method) == method
    assert hash(dataclasses.replace(method)) == hash(method)


@every_method
@pytest.mark.parametrize("n", [1, 2, 7, 66])
def test_keeps_exactly_k_distinct_tokens(method, n):
    tokens = sample(n)
    for k in range(1, n + 1):
        selection = method.select(tokens, k)
        assert selection.k == k
        assert selection.n == n
        assert len(set(selection.order.tolist())) == k
        if selection.scores is not None:
            assert selection.scores.dtype == torch.float32
            assert bool(torch.isfinite(selection.scores).all())
    assert selection.indices.tolist() == list(range(n))


@every_method
def test_is_deterministic_and_leaves_its_inputs_untouched(method):
    tokens = sample(40)
    before = {name: value.clone() for name, value in tokens.signals.items()}
    rows, similarity = tokens.features.clone(), tokens.similarity.clone()
    order = method.select(tokens, 13).order
    assert torch.equal(method.select(tokens, 13).order, order)
    assert torch.equal(dataclasses.replace(method).select(sample(40), 13).order, order)
    assert torch.equal(tokens.features, rows)
    assert torch.equal(tokens.similarity, similarity)
    assert set(tokens.signals) == set(before)
    assert all(torch.equal(tokens.signals[name], value) for name, value in before.items())


@every_method
def test_asks_for_no_more_than_it_needs(method):
    tokens = sample(20)
    given = VisualTokens(tokens.features, tokens.grids, {need: tokens.signal(need) for need in method.needs})
    assert torch.equal(method.select(given, 6).order, method.select(tokens, 6).order)
    for need in method.needs:
        rest = {name: value for name, value in given.signals.items() if name != need}
        with pytest.raises(ValueError, match=f"'{need}' is missing"):
            method.select(VisualTokens(tokens.features, tokens.grids, rest), 6)


@every_method
def test_smaller_budgets_are_prefixes_where_declared(method):
    tokens = sample(50)
    longest = method.select(tokens, 50)
    same = [torch.equal(method.select(tokens, k).order, longest.prefix(k).order) for k in range(1, 51)]
    if method.nested:
        assert all(same)
    elif method == make(method.name):
        assert not all(same), "declared as not nested without a reason"


@every_method
def test_follows_its_tokens_when_they_change_places(method):
    if method.name in BOUND_TO_PLACES:
        assert not method.needs, "only a method that looks at nothing may be bound to places"
        return
    tokens = sample(40)
    moved = torch.randperm(40, generator=torch.Generator().manual_seed(3))  # new place i holds old token moved[i]
    shuffled = VisualTokens(
        tokens.features[moved],
        tokens.grids,
        {name: value if name == "question" else value[moved] for name, value in tokens.signals.items()},
    )
    assert torch.equal(moved[method.select(shuffled, 15).order], method.select(tokens, 15).order)


def edge_cases() -> dict[str, VisualTokens]:
    n = 24
    plain, given, grid = features(n), signals(n), (Grid(1, 4, 6),)
    zeros = plain.clone()
    zeros[::3] = 0
    flat = {"scorer": torch.full((n,), 2.0), "vision_attention@-1": torch.zeros(n), "question": torch.zeros(2, 12)}
    return {
        "duplicates": VisualTokens(plain[:4].repeat(6, 1), grid, given),
        "one vector": VisualTokens(torch.ones(n, 12), grid, given),
        "opposite": VisualTokens(torch.cat([plain[:12], -plain[:12]]), grid, given),
        "some zero norms": VisualTokens(zeros, grid, given),
        "all zero": VisualTokens(torch.zeros(n, 12), grid, given),
        "constant scores": VisualTokens(plain, grid, flat),
        "all the same": VisualTokens(torch.ones(n, 12), grid, flat),
        "huge": VisualTokens(plain * 1e15, grid, {**given, "scorer": given["scorer"] * 1e30}),
        "tiny": VisualTokens(plain * 1e-15, grid, {**given, "scorer": given["scorer"] * 1e-30}),
        "one wide": VisualTokens(features(n, 1), grid, {**given, "question": torch.ones(1, 1)}),
        "several images": VisualTokens(plain, (Grid(1, 2, 3), Grid(3, 2, 2, 6), Grid(1, 6, 1, 18)), given),
    }


@every_method
@pytest.mark.parametrize("case", sorted(edge_cases()))
def test_edge_cases_keep_exactly_k(method, case):
    tokens = edge_cases()[case]
    for k in (1, 7, 23, 24):
        order = method.select(tokens, k).order.tolist()
        assert len(set(order)) == len(order) == k


@every_method
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_refuses_features_that_are_not_finite(method, bad):
    rows = features(10)
    rows[4, 2] = bad
    with pytest.raises(ValueError, match=rf"{method.name}: features \(10, 12\) hold NaN or infinite"):
        method.select(VisualTokens(rows, (Grid(1, 2, 5),), signals(10)), 3)


@every_method
def test_refuses_signals_that_are_not_finite(method):
    for need in method.needs:
        tokens = sample(10)
        broken = tokens.signal(need).clone()
        broken[1] = torch.nan
        with pytest.raises(ValueError, match=rf"{method.name}: signal '{need}' .*NaN"):
            method.select(tokens.with_signals({need: broken}), 3)


@every_method
@pytest.mark.parametrize("budget", [0, 11, -1, True, 2.0, "3"])
def test_refuses_budgets_outside_1_to_n(method, budget):
    with pytest.raises(ValueError, match="from 1 to 10"):
        method.select(sample(10), budget)
