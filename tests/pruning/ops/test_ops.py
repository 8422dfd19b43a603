import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pruning import ops
from pruning.evaluation import metrics
from pruning.ops import device_loops, kernels, scaling, set_kernels
from tests.helpers import oracles
from tests.helpers.fetching import no_fetching
from tests.helpers.samples import features, scores, similarity

LAMBDAS = (0.0, 0.05, 0.3, 0.5, 0.7, 0.95, 1.0)


@pytest.mark.parametrize("n", [1, 2, 5, 63, 64, 65, 150])
@pytest.mark.parametrize("mmr_lambda", LAMBDAS)
def test_mmr_picks_what_brute_force_picks(n, mmr_lambda):
    importance, sim = scores(n), similarity(n)
    k = min(n, 40)
    assert ops.mmr(importance, sim, k, mmr_lambda).tolist() == oracles.mmr(importance, sim, k, mmr_lambda)


coarse = st.integers(-4, 4).map(lambda v: v / 4)  # few values, so that ties are the rule


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 14), mmr_lambda=st.sampled_from(LAMBDAS) | st.floats(0, 1))
def test_mmr_picks_what_brute_force_picks_with_ties(data, n, mmr_lambda):
    importance = data.draw(hnp.arrays(np.float32, n, elements=coarse))
    half = data.draw(hnp.arrays(np.float32, (n, n), elements=coarse))
    sim = np.triu(half) + np.triu(half, 1).T
    k = data.draw(st.integers(1, n))
    picks = ops.mmr(torch.from_numpy(importance), torch.from_numpy(sim), k, mmr_lambda).tolist()
    assert picks == oracles.mmr(importance, sim, k, mmr_lambda)


def test_mmr_golden_order():
    # Token 1 nearly repeats token 0; token 3 is unlike all but worth little.
    importance = torch.tensor([1.0, 0.9, 0.5, 0.1])
    sim = torch.tensor([[1, 0.95, 0.2, 0], [0.95, 1, 0.3, 0], [0.2, 0.3, 1, 0], [0, 0, 0, 1.0]])
    assert ops.mmr(importance, sim, 4, 1.0).tolist() == [0, 1, 2, 3]
    assert ops.mmr(importance, sim, 4, 0.5).tolist() == [0, 2, 3, 1]
    assert ops.mmr(importance, sim, 4, 0.0).tolist() == [0, 3, 2, 1]


def test_mmr_first_pick_is_the_most_important_whatever_lambda_is():
    importance, sim = scores(30), similarity(30)
    for order in ops.mmr_sweep(importance, sim, 5, LAMBDAS):
        assert order[0] == importance.argmax()


def test_mmr_with_lambda_1_is_topk():
    importance, sim = scores(70), similarity(70)
    assert torch.equal(ops.mmr(importance, sim, 70, 1.0), ops.topk(importance, 70))


def test_mmr_prefers_the_lower_index_on_ties_across_lanes():
    n = 3 * 64 + 5
    ties = torch.zeros(n)
    assert ops.mmr(ties, torch.eye(n), n, 0.5).tolist() == list(range(n))


def test_mmr_sweep_rows_are_single_runs():
    importance, sim = scores(80), similarity(80)
    swept = ops.mmr_sweep(importance, sim, 80, LAMBDAS)
    assert swept.shape == (len(LAMBDAS), 80)
    for mmr_lambda, order in zip(LAMBDAS, swept, strict=True):
        assert torch.equal(order, ops.mmr(importance, sim, 80, mmr_lambda))


def test_ops_leave_their_inputs_untouched_and_accept_views():
    importance = torch.stack([scores(40), scores(40)], dim=1)[:, 0]
    sim = torch.stack([similarity(40)] * 2, dim=2)[:, :, 0]
    before = importance.clone(), sim.clone()
    contiguous = ops.mmr(importance.contiguous(), sim.contiguous(), 20, 0.5)
    assert torch.equal(ops.mmr(importance, sim, 20, 0.5), contiguous)
    ops.farthest_point(sim, 20)
    ops.farthest_point(sim, 20, 3, importance > 0)
    ops.dpp(importance, sim, 12)
    ops.coverage(sim, 12, importance)
    ops.weighted_farthest_point(importance, sim, 12)
    ops.deduplicate(torch.arange(40), sim, 12)
    ops.topk(importance, 3)
    assert torch.equal(importance, before[0])
    assert torch.equal(sim, before[1])


@pytest.mark.parametrize(
    ("importance", "sim", "k", "mmr_lambda", "message"),
    [
        (scores(4), similarity(5), 2, 0.5, r"importance must be \(5,\)"),
        (scores(5).double(), similarity(5), 2, 0.5, "float32"),
        (scores(5), similarity(5)[:4], 2, 0.5, r"similarity must be \(N, N\)"),
        (scores(5), similarity(5).double(), 2, 0.5, "float32"),
        (scores(5), similarity(5), 0, 0.5, "budget 0"),
        (scores(5), similarity(5), 6, 0.5, "budget 6"),
        (scores(5), similarity(5), 2, 1.1, "mmr_lambda = 1.1"),
        (scores(5), similarity(5), 2, float("nan"), "mmr_lambda = nan"),
        (torch.tensor([0, 1, torch.nan, 0, 0]), similarity(5), 2, 0.5, "NaN"),
        (torch.tensor([0, 1, torch.inf, 0, 0]), similarity(5), 2, 0.5, "infinite"),
    ],
)
def test_mmr_refuses_bad_input(importance, sim, k, mmr_lambda, message):
    with pytest.raises(ValueError, match=message):
        ops.mmr(importance, sim, k, mmr_lambda)


@pytest.mark.parametrize("n", [1, 2, 40, 130])
@pytest.mark.parametrize("first", [None, 0])
def test_farthest_point_picks_what_brute_force_picks(n, first):
    sim = similarity(n)
    k = min(n, 30)
    assert ops.farthest_point(sim, k, first).tolist() == oracles.farthest_point(sim, k, first)


def test_farthest_point_stays_in_its_pool():
    sim = similarity(50)
    pool = torch.arange(50) % 3 == 0
    members = pool.nonzero()[:, 0].tolist()
    assert ops.farthest_point(sim, 10, 9, pool).tolist() == oracles.farthest_point(sim, 10, 9, members)
    for first, k in ((1, 10), (9, 18)):
        with pytest.raises(ValueError, match="pool"):
            ops.farthest_point(sim, k, first, pool)


def test_farthest_point_golden_order_on_a_circle():
    angles = torch.tensor([0.0, 10, 90, 180, 200, 270]).deg2rad()
    sim = scaling.cosine_similarity(torch.stack([angles.cos(), angles.sin()], dim=1))
    assert ops.farthest_point(sim, 4, 0).tolist() == [0, 3, 2, 5]
    # 90° and 270°: nearest neighbours 80° and 70° away.
    assert ops.farthest_point(sim, 1).tolist() == [2]


def test_dpp_picks_what_determinants_pick():
    for seed in range(5):
        quality, sim = scores(20, seed) + 0.05, similarity(20, 12, seed)
        assert ops.dpp(quality, sim, 9).tolist() == oracles.dpp(quality, sim, 9)


def test_dpp_goes_on_by_quality_where_the_space_is_exhausted():
    two_directions = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1], [0, 0]])
    quality = torch.tensor([0.5, 0.4, 0.3, 0.6, 0.9])
    assert ops.dpp(quality, scaling.cosine_similarity(two_directions), 5).tolist() == [3, 0, 4, 1, 2]


def test_dpp_refuses_negative_quality():
    with pytest.raises(ValueError, match="negative"):
        ops.dpp(torch.tensor([0.1, -0.1]), torch.eye(2), 1)


@pytest.mark.parametrize("n", [2, 65, 150])
def test_device_loops_pick_what_the_kernels_pick(n):
    importance, sim = scores(n), similarity(n)
    weights = torch.tensor(LAMBDAS)[:, None]
    picks = device_loops.greedy_mmr(weights * importance, 1 - weights, sim, importance.argmax(), n)
    assert torch.equal(picks, ops.mmr_sweep(importance, sim, n, weights[:, 0].tolist()))
    assert torch.equal(device_loops.greedy_dpp(importance, sim, n), ops.dpp(importance, sim, n))
    assert torch.equal(device_loops.greedy_coverage(sim, importance, n), ops.coverage(sim, n, importance))
    own = device_loops.greedy_mmr(importance[None].clone(), importance[None], sim, importance.argmax(), n)[0]
    assert torch.equal(own, ops.weighted_farthest_point(importance, sim, n))


def test_device_loops_never_fetch_a_value(monkeypatch):
    importance, sim = scores(9), similarity(9)
    first = importance.argmax()
    with no_fetching(monkeypatch):
        device_loops.greedy_mmr(importance[None], torch.ones(1, 1), sim, first, 4)
        device_loops.greedy_dpp(importance, sim, 4)
        device_loops.greedy_coverage(sim, importance, 4)


def test_ops_accept_tensors_that_train():
    importance, sim = scores(9).requires_grad_(), similarity(9).requires_grad_()
    assert len(ops.mmr(importance, sim, 4, 0.5)) == len(ops.dpp(importance, sim, 4)) == len(ops.farthest_point(sim, 4))
    assert len(ops.weighted_farthest_point(importance, sim, 4)) == len(ops.coverage(sim, 4, importance)) == 4
    assert len(ops.deduplicate(torch.arange(9), sim, 4)) == 4


def test_warm_up_compiles_every_kernel_for_the_types_in_use():
    ops.warm_up()
    importance, sim = scores(20), similarity(20)
    order = ops.mmr(importance, sim, 9, 0.5)
    ops.farthest_point(sim, 9)
    ops.dpp(importance, sim, 9)
    ops.weighted_farthest_point(importance, sim, 9)
    ops.coverage(sim, 9, importance)
    ops.deduplicate(order, sim, 4)
    metrics.hopkins(sim, order)
    for kernel in (
        kernels.greedy_mmr,
        kernels.most_isolated,
        set_kernels.greedy_dpp,
        set_kernels.greedy_coverage,
        kernels.nearest_of,
        kernels.hopkins_prefixes,
    ):
        assert len(kernel.signatures) == 1, kernel


def test_topk_breaks_ties_by_index():
    assert ops.topk(torch.tensor([0.5, 1, 0.5, 1, 0.5]), 4).tolist() == [1, 3, 0, 2]


def test_minmax_does_not_depend_on_scale():
    values = torch.tensor([3.0, 1, 2])
    assert scaling.minmax(values).tolist() == [1, 0, 0.5]
    assert scaling.minmax(values * 1e-20).tolist() == [1, 0, 0.5]
    assert scaling.minmax(torch.full((3,), 7.0)).tolist() == [0, 0, 0]
    assert scaling.minmax(torch.tensor([5.0])).tolist() == [0]


def test_cosine_similarity():
    found = scaling.cosine_similarity(torch.tensor([[3.0, 0], [0, 2], [1, 1], [0, 0]]))
    root = 0.5**0.5
    expected = torch.tensor([[1, 0, root, 0], [0, 1, root, 0], [root, root, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(found, expected)
    large = scaling.cosine_similarity(features(333, 77))
    assert torch.equal(large, large.T)


def test_soft_topk_sums_to_k_and_keeps_the_order():
    raw = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 8
    for k in (1, 10, 49):
        soft = ops.soft_topk(raw, k)
        assert soft.sum().item() == pytest.approx(k, abs=1e-3)
        assert bool((soft[raw.argsort()].diff() >= 0).all())
    assert ops.soft_topk(raw, 50).tolist() == [1.0] * 50
