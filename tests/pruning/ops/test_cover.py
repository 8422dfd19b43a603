"""The rules that cover, weigh distance by importance, and drop repetitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pruning import ops
from pruning.ops import device_loops, scaling
from tests.helpers import oracles
from tests.helpers.samples import features, scores, similarity

coarse = st.integers(-2, 4).map(lambda v: v / 4)  # few values, exact in every sum, so that ties are the rule


@pytest.mark.parametrize("n", [1, 2, 40, 130])
def test_weighted_farthest_point_picks_what_brute_force_picks(n):
    importance, sim = scores(n), similarity(n)
    k = min(n, 30)
    expected = oracles.weighted_farthest_point(importance, sim, k)
    assert ops.weighted_farthest_point(importance, sim, k).tolist() == expected


def test_weighted_farthest_point_golden_order():
    # Token 1 repeats token 0, token 3 is opposite to it: farther than a right angle counts for more.
    sim = scaling.cosine_similarity(torch.tensor([[1.0, 0], [1, 0], [0, 1], [-1, 0]]))
    assert ops.weighted_farthest_point(torch.tensor([1.0, 0.9, 0.5, 0.3]), sim, 4).tolist() == [0, 3, 2, 1]
    assert ops.weighted_farthest_point(torch.tensor([1.0, 0.9, 0.7, 0.3]), sim, 4).tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize("n", [1, 2, 30, 70])
@pytest.mark.parametrize("weighted", [True, False])
def test_coverage_picks_what_brute_force_picks(n, weighted):
    cover = torch.cat([similarity(n), features(n, 67)], dim=1)
    weight = scores(n) if weighted else None
    k = min(n, 20)
    assert ops.coverage(cover, k, weight).tolist() == oracles.coverage(cover, k, weight)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 12), items=st.integers(1, 70))
def test_coverage_picks_what_brute_force_picks_with_ties(data, n, items):
    cover = data.draw(hnp.arrays(np.float32, (n, items), elements=coarse))
    weight = data.draw(hnp.arrays(np.float32, n, elements=st.sampled_from([0, 0.5, 1, 2])))
    k = data.draw(st.integers(1, n))
    expected = oracles.coverage(cover, k, weight)
    assert ops.coverage(torch.from_numpy(cover), k, torch.from_numpy(weight)).tolist() == expected
    assert device_loops.greedy_coverage(torch.from_numpy(cover), torch.from_numpy(weight), k).tolist() == expected


def test_coverage_golden_order():
    # Token 1 covers most alone, but token 0 and 2 cover the same items better; token 3 adds nothing to them.
    cover = torch.tensor([[1.0, 1, 0, 0], [0.6, 0.6, 0.6, 0.6], [0, 0, 1, 0.9], [0, 0.5, 0, 0]])
    assert ops.coverage(cover, 4).tolist() == [1, 0, 2, 3]
    assert ops.coverage(cover, 4, torch.tensor([1, 0.5, 1, 1])).tolist() == [0, 2, 1, 3]


def test_coverage_goes_on_by_gain_alone_where_all_is_covered():
    cover = torch.tensor([[0.2, 0], [0.1, 0.1], [1, 1], [0.5, 0], [-1, -1]])
    for pick in (ops.coverage(cover, 5), device_loops.greedy_coverage(cover, torch.ones(5), 5)):
        assert pick.tolist() == [2, 3, 0, 1, 4]


@pytest.mark.parametrize(
    ("cover", "weight", "message"),
    [
        (torch.ones(4), None, r"cover must be finite \(N, R\) float32, not \(4,\)"),
        (torch.ones(4, 3).double(), None, "float64"),
        (torch.full((4, 3), torch.nan), None, "finite"),
        (torch.ones(4, 3), torch.ones(3), r"weight must be \(4,\) float32, not \(3,\)"),
        (torch.ones(4, 3), torch.tensor([1, 1, 1, torch.inf]), r"weight \(4,\) holds"),
        (torch.ones(4, 3), torch.tensor([1, 1, 1, -0.5]), "weight must not be negative, but its minimum is -0.5"),
        (torch.ones(1, 3), None, "budget 2"),
    ],
)
def test_coverage_refuses_bad_input(cover, weight, message):
    with pytest.raises(ValueError, match=message):
        ops.coverage(cover, 2, weight)


def test_weighted_farthest_point_refuses_negative_importance():
    with pytest.raises(ValueError, match="importance must not be negative"):
        ops.weighted_farthest_point(torch.tensor([0.1, -0.1]), torch.eye(2), 1)


@pytest.mark.parametrize("n", [1, 2, 9, 40, 41])
@pytest.mark.parametrize("step", [1, 3, 8])
def test_deduplicate_keeps_what_brute_force_keeps(n, step):
    ranking = torch.randperm(50, generator=torch.Generator().manual_seed(n))[:n]
    sim = similarity(50)
    for k in range(n + 1):
        assert ops.deduplicate(ranking, sim, k, step).tolist() == oracles.deduplicate(ranking.tolist(), sim, k, step)


def test_deduplicate_golden_rounds():
    # Round 1: even places 0, 2, 4; 0 repeats 1 and goes. Round 2: list 4, 2, 1, 3 (4 is nearer to an odd one than 2);
    # even places 4 and 1, of which 4 is nearer to 3.
    angles = torch.tensor([0.0, 1, 90, 40, 45]).deg2rad()
    sim = scaling.cosine_similarity(torch.stack([angles.cos(), angles.sin()], dim=1))
    assert ops.deduplicate(torch.arange(5), sim, 4, 1).tolist() == [1, 2, 3, 4]
    assert ops.deduplicate(torch.arange(5), sim, 3, 1).tolist() == [1, 2, 3]


def test_deduplicate_runs_the_same_on_a_device(monkeypatch):
    ranking, sim = torch.arange(30), similarity(30)
    kept = ops.deduplicate(ranking, sim, 7)
    monkeypatch.setattr(ops, "_nearest_of", lambda similarity, rows: similarity[rows].amax(dim=0))
    assert torch.equal(ops.deduplicate(ranking, sim, 7), kept)


def test_unit_rows_at_any_scale():
    rows = torch.tensor([[3.0, 4], [3e-15, 4e-15], [0, 0]])
    torch.testing.assert_close(scaling.unit_rows(rows), torch.tensor([[0.6, 0.8], [0.6, 0.8], [0, 0]]))
