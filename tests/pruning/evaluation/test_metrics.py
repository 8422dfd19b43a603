import math

import numpy as np
import pytest
import torch

from pruning import make, ops
from pruning.evaluation import metrics
from pruning.ops import scaling
from tests.helpers import oracles
from tests.helpers.samples import features, sample, scores, similarity


def test_importance_retention_is_the_kept_share_of_minmax_importance():
    importance = torch.tensor([2.0, 4.0, 3.0, 2.5])  # 0, 1, 0.5, 0.25
    assert metrics.importance_retention(importance, torch.tensor([2, 1])) == pytest.approx(1.5 / 1.75)
    assert metrics.importance_retention(importance, torch.tensor([0])) == 0
    assert metrics.importance_retention(importance * -8 + 3, torch.tensor([0])) == pytest.approx(1 / 2.25)
    assert metrics.importance_retention(importance, torch.arange(4)) == 1


def test_importance_retention_of_constant_importance_is_the_share_of_tokens():
    assert metrics.importance_retention(torch.full((8,), 3.0), torch.tensor([5, 1])) == 0.25


def test_importance_retention_refuses_nan():
    with pytest.raises(ValueError, match="NaN"):
        metrics.importance_retention(torch.tensor([1.0, torch.nan]), torch.tensor([0]))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("k", [2, 3, 17, 39])
def test_hopkins_is_its_definition(k, seed):
    sim = similarity(40)
    kept = ops.mmr(scores(40), sim, k, 0.5)
    drawn = np.random.default_rng(seed).permutation(40)[:k]
    assert metrics.hopkins(sim, kept, seed) == pytest.approx(oracles.hopkins(sim, kept.tolist(), drawn), rel=1e-5)


def test_prefixes_are_single_values_in_any_order_of_budgets():
    sim, importance = similarity(60), scores(60)
    order = ops.mmr(importance, sim, 60, 0.4)
    budgets = [30, 2, 60, 7, 7]
    spread = metrics.hopkins_prefixes(sim, order, budgets, seed=3)
    kept = metrics.importance_retention_prefixes(importance, order, budgets)
    for at, k in enumerate(budgets):
        assert spread[at] == metrics.hopkins(sim, order[:k], seed=3)
        assert kept[at] == pytest.approx(metrics.importance_retention(importance, order[:k]))


def test_hopkins_does_not_depend_on_the_order_of_picks():
    sim = similarity(30)
    kept = ops.mmr(scores(30), sim, 11, 0.5)
    assert metrics.hopkins(sim, kept) == pytest.approx(metrics.hopkins(sim, kept.sort().values))


def test_hopkins_tells_clustered_from_random_from_spread():
    """One tight cluster among scattered tokens: kept alone it is clustered; farthest points are spread."""
    scattered, cluster = features(180, 6), torch.ones(20, 6) + features(20, 6, seed=1) * 0.02
    sim = scaling.cosine_similarity(torch.cat([scattered, cluster]))
    clustered = metrics.hopkins(sim, torch.arange(180, 200))
    by_chance = np.mean([metrics.hopkins(sim, make("random", seed=s).select(sample(200), 20).order) for s in range(20)])
    spread = metrics.hopkins(sim, ops.farthest_point(sim, 20))
    assert clustered > 0.95
    assert 0.4 < by_chance < 0.6
    assert spread < by_chance


def test_hopkins_draws_its_points_independently_of_the_random_method():
    """With equal seeds, R must not be what `random` picks: all distances from R to the kept set would be 0."""
    tokens = sample(200)
    for seed in range(3):
        order = make("random", seed=seed).select(tokens, 50).order
        assert metrics.hopkins(tokens.similarity, order, seed) > 0.3


def test_hopkins_of_all_tokens_is_0_and_of_one_token_undefined():
    sim = similarity(12)
    assert metrics.hopkins(sim, torch.arange(12)) == 0
    assert math.isnan(metrics.hopkins(sim, torch.tensor([4])))
    assert math.isnan(metrics.hopkins(torch.ones(5, 5), torch.tensor([0, 1])))
    assert math.isnan(metrics.hopkins(torch.ones(1, 1), torch.tensor([0])))


@pytest.mark.parametrize("budget", [0, 6, True])
def test_prefixes_refuse_budgets_beyond_the_order(budget):
    with pytest.raises(ValueError, match="from 1 to 5"):
        metrics.hopkins_prefixes(similarity(9), torch.arange(5), [budget])
    with pytest.raises(ValueError, match="from 1 to 5"):
        metrics.importance_retention_prefixes(scores(9), torch.arange(5), [budget])


def test_fidelity_is_the_exponential_of_minus_the_mean_divergence():
    full, pruned = features(4, 9, 0).log_softmax(1), features(4, 9, 1).log_softmax(1)
    p, q = full.double().exp().numpy(), pruned.double().exp().numpy()
    steps = [sum(p[t, v] * np.log(p[t, v] / q[t, v]) for v in range(9)) for t in range(4)]
    expected = np.exp(-np.mean(steps))
    assert metrics.fidelity(full, pruned) == pytest.approx(expected, rel=1e-5)
    assert metrics.fidelity(full, full) == 1
    assert metrics.fidelity(full, full.half()) == pytest.approx(1, abs=1e-3)


def test_fidelity_with_excluded_words():
    full = torch.tensor([[0.5, 0.5, 0.0]]).log()
    assert metrics.fidelity(full, torch.tensor([[0.5, 0.25, 0.25]]).log()) == pytest.approx(0.5**0.5)
    assert metrics.fidelity(full, torch.tensor([[1.0, 0.0, 0.0]]).log()) == 0
    assert metrics.fidelity(full, full) == 1


def test_fidelity_refuses_other_shapes_and_nan():
    ones = torch.zeros(2, 3)
    for a, b in ((ones, ones[:1]), (ones[0], ones[0]), (ones[:0], ones[:0])):
        with pytest.raises(ValueError, match=r"\(T, V\)"):
            metrics.fidelity(a, b)
    with pytest.raises(ValueError, match="NaN"):
        metrics.fidelity(ones, ones * torch.nan)


def test_iou():
    assert metrics.iou(torch.tensor([3, 1, 2]), torch.tensor([2, 3, 4])) == 0.5
    assert metrics.iou(torch.tensor([1]), torch.tensor([2])) == 0
    assert metrics.iou(torch.tensor([]), torch.tensor([])) == 1


def test_token_losses_by_hand():
    full = torch.log(torch.tensor([[0.9, 0.1], [0.25, 0.75], [0.5, 0.5]]))
    pruned = torch.log(torch.tensor([[0.6, 0.4], [0.25, 0.75], [0.9, 0.1]]))
    assert metrics.token_losses(full, pruned, [0, 1, 0]).tolist() == pytest.approx([0.3, 0.0, -0.4])
    with pytest.raises(ValueError, match="2 answer tokens"):
        metrics.token_losses(full, pruned, [0, 1])
    with pytest.raises(ValueError, match="one shape"):
        metrics.token_losses(full, pruned[:, :1], [0, 0, 0])
    assert metrics.token_probabilities(full, [1, 1, 0]).tolist() == pytest.approx([0.1, 0.75, 0.5])
