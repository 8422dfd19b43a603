"""Greedy rules without the matrix: the picks of a brute-force search, ties and degenerate rows included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pruning import Grid, VisualTokens, make, ops
from pruning.ops import lazy, lazy_kernels, scaling
from tests.helpers import oracles
from tests.helpers.samples import features, sample, scores

LAMBDAS = (0.0, 0.3, 0.5, 0.95, 1.0)


def cosines(rows) -> np.ndarray:
    """(N, N) float32: the exact ones, rounded once."""
    return oracles.cosine(rows).astype(np.float32)


def outliers(n: int, width: int = 40) -> torch.Tensor:
    """As towers give them: a common part, a channel that outweighs all others, rows of all lengths."""
    rows = features(n, width) + 1.5 * features(1, width, seed=9)
    rows[:, 3] += 30
    return rows * torch.logspace(-3, 3, n)[:, None]


ROWS = {"spread": features, "outliers": outliers, "one direction": lambda n: torch.arange(1.0, n + 1)[:, None]}
every_kind = pytest.mark.parametrize("kind", ROWS)


@every_kind
@pytest.mark.parametrize("n", [1, 2, 64, 65, 150])
@pytest.mark.parametrize("mmr_lambda", LAMBDAS)
def test_mmr_picks_what_brute_force_picks(kind, n, mmr_lambda):
    rows, importance = ROWS[kind](n), scores(n)
    k = min(n, 40)
    assert lazy.mmr(importance, rows, k, mmr_lambda).tolist() == oracles.mmr(importance, cosines(rows), k, mmr_lambda)


coarse = st.integers(-2, 2).map(float)  # duplicates, rows of zeros and equal scores are the rule


@settings(max_examples=80, deadline=None)
@given(data=st.data(), n=st.integers(1, 14), mmr_lambda=st.sampled_from(LAMBDAS) | st.floats(0, 1))
def test_picks_are_those_of_brute_force_with_ties(data, n, mmr_lambda):
    rows = data.draw(hnp.arrays(np.float32, (n, 3), elements=coarse))
    importance = data.draw(hnp.arrays(np.float32, n, elements=coarse))
    k = data.draw(st.integers(1, n))
    alike, told, weight = cosines(rows), torch.from_numpy(rows), torch.from_numpy(importance)
    assert lazy.mmr(weight, told, k, mmr_lambda).tolist() == oracles.mmr(importance, alike, k, mmr_lambda)
    assert lazy.farthest_point(told, k).tolist() == oracles.farthest_point(alike, k)
    positive = np.abs(importance)
    assert torch.equal(
        lazy.weighted_farthest_point(torch.from_numpy(positive), told, k),
        ops.weighted_farthest_point(torch.from_numpy(positive), torch.from_numpy(alike), k),
    )


@every_kind
@pytest.mark.parametrize("n", [1, 2, 40, 130])
@pytest.mark.parametrize("first", [None, 0])
def test_farthest_point_picks_what_brute_force_picks(kind, n, first):
    rows, k = ROWS[kind](n), min(n, 30)
    assert lazy.farthest_point(rows, k, first).tolist() == oracles.farthest_point(cosines(rows), k, first)


def test_farthest_point_stays_in_its_pool():
    rows, pool = features(50), torch.arange(50) % 3 == 0
    members = pool.nonzero()[:, 0].tolist()
    found = lazy.farthest_point(rows, 10, 9, pool).tolist()
    assert found == oracles.farthest_point(cosines(rows), 10, 9, members)
    with pytest.raises(ValueError, match="pool"):
        lazy.farthest_point(rows, 10, 1, pool)


@every_kind
def test_weighted_farthest_point_picks_what_brute_force_picks(kind):
    rows, weight = ROWS[kind](90), scores(90)
    found = lazy.weighted_farthest_point(weight, rows, 40)
    assert torch.equal(found, ops.weighted_farthest_point(weight, torch.from_numpy(cosines(rows)), 40))


@pytest.mark.parametrize("mmr_lambda", LAMBDAS)
def test_of_equal_tokens_the_lower_index_is_first(mmr_lambda):
    n = 3 * lazy_kernels.LANES + 5
    same = torch.ones(n, 7)
    assert lazy.mmr(torch.full((n,), 0.5), same, n, mmr_lambda).tolist() == list(range(n))
    assert lazy.farthest_point(same, n).tolist() == list(range(n))
    pairs = features(100).repeat_interleave(2, dim=0)
    order = lazy.mmr(scores(100).repeat_interleave(2), pairs, 200, mmr_lambda).tolist()
    place = {token: at for at, token in enumerate(order)}
    assert all(place[2 * i] < place[2 * i + 1] for i in range(100))


def test_all_of_the_tokens_and_every_prefix():
    rows, importance = features(80), scores(80)
    whole = lazy.mmr(importance, rows, 80, 0.5)
    assert sorted(whole.tolist()) == list(range(80))
    for k in (1, 7, 40, 79):
        assert torch.equal(lazy.mmr(importance, rows, k, 0.5), whole[:k])


@pytest.mark.parametrize("scale", [2.0**-100, 1.0, 2.0**100])
def test_the_scale_of_the_features_changes_no_pick(scale):
    rows, importance = features(60), scores(60)
    assert torch.equal(lazy.mmr(importance, rows * scale, 30, 0.5), lazy.mmr(importance, rows, 30, 0.5))


@every_kind
def test_brackets_hold_the_cosine(kind):
    known, exact = lazy.coded(ROWS[kind](70)), oracles.cosine(ROWS[kind](70))
    for i in range(70):
        for j in range(0, 70, 7):
            low, high = lazy_kernels.bracket(known, i, known.codes[j], j)
            assert low < exact[i, j] < high
            assert low <= lazy_kernels.cosine(known, i, j) <= high
            assert lazy_kernels.cosine(known, i, j) == lazy_kernels.cosine(known, j, i)


def test_codes_of_wide_rows_still_add_up_in_32_bits():
    rows = torch.ones(2, 200_000)
    rows[1, ::2] = -1
    known = lazy.coded(rows)
    assert int(known.codes.max()) < lazy.CODES
    low, high = lazy_kernels.bracket(known, 0, known.codes[1], 1)
    assert low < 0 < high < 0.1


def test_inputs_stay_untouched_and_may_be_views():
    rows = torch.stack([features(40)] * 2, dim=2)[:, :, 0]
    importance = torch.stack([scores(40)] * 2, dim=1)[:, 0]
    before = rows.clone(), importance.clone()
    assert torch.equal(lazy.mmr(importance, rows, 9, 0.5), lazy.mmr(before[1], before[0], 9, 0.5))
    lazy.farthest_point(rows, 9)
    lazy.weighted_farthest_point(importance, rows, 9)
    assert torch.equal(rows, before[0])
    assert torch.equal(importance, before[1])


@pytest.mark.parametrize(
    ("importance", "rows", "k", "mmr_lambda", "message"),
    [
        (scores(4), features(5), 2, 0.5, r"importance must be \(5,\)"),
        (scores(5), features(5).double(), 2, 0.5, "float32"),
        (scores(5), features(5)[0], 2, 0.5, r"\(N, D\)"),
        (scores(5), features(5), 0, 0.5, "budget 0"),
        (scores(5), features(5), 6, 0.5, "budget 6"),
        (scores(5), features(5), 2, 1.1, "mmr_lambda = 1.1"),
        (torch.tensor([0, 1, torch.nan, 0, 0]), features(5), 2, 0.5, "NaN"),
        (scores(5), torch.full((5, 3), torch.nan), 2, 0.5, "NaN"),
        (scores(5), torch.full((5, 3), torch.inf), 2, 0.5, "infinite"),
    ],
)
def test_bad_input_is_refused(importance, rows, k, mmr_lambda, message):
    with pytest.raises(ValueError, match=message):
        lazy.mmr(importance, rows, k, mmr_lambda)


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="negative"):
        lazy.weighted_farthest_point(-scores(5), features(5), 2)


@pytest.mark.parametrize("name", ["idpruner", "divprune", "greedy_diversity", "zoo_prune", "naive_hybrid", "holov"])
def test_methods_make_no_matrix_and_use_the_one_that_is_there(name):
    method = make(name)
    without, beside = sample(300, 40, needs=method.needs), sample(300, 40, needs=method.needs)
    assert beside.similarity.shape == (300, 300)
    assert torch.equal(method.select(without, 75).order, method.select(beside, 75).order)
    assert not without.has_similarity
    assert beside.has_similarity


def test_a_matrix_is_there_for_all_that_share_it():
    tokens = VisualTokens(features(6), (Grid(1, 2, 3),))
    more = tokens.with_signals(scorer=scores(6))
    assert not tokens.has_similarity
    assert tokens.similarity is more.similarity
    assert more.has_similarity


@pytest.mark.parametrize("n", [1, 5, 127, 128, 300])
def test_the_matrix_is_symmetric_and_that_of_the_whole_product(n):
    rows = outliers(n)
    found = scaling.cosine_similarity(rows)
    assert torch.equal(found, found.T)
    np.testing.assert_allclose(found, oracles.cosine(rows), atol=1e-6)


def test_the_mean_cosine_is_that_of_the_matrix():
    rows = torch.cat([features(600), torch.zeros(2, 12)])
    torch.testing.assert_close(scaling.mean_cosine(rows), scaling.cosine_similarity(rows).mean(dim=1))
    twice = scaling.mean_cosine(rows.repeat(2, 1))
    assert torch.equal(twice[:602], twice[602:])
