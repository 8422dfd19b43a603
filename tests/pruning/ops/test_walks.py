"""The rules that walk: max-sum diversity, thinning out a ranking; and rankings by level, shares, finite or not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pruning import ops
from pruning.ops import device_loops, kernels, scaling
from tests.helpers.fetching import no_fetching
from tests.helpers.samples import scores, similarity

coarse = st.integers(-2, 4).map(lambda v: v / 4)  # few values, exact in every sum, so that ties are the rule


@st.composite
def symmetric(draw):
    n = draw(st.integers(1, 12))
    half = draw(hnp.arrays(np.float32, (n, n), elements=coarse))
    return np.triu(half) + np.triu(half, 1).T


def least_similar(sim, k, first):
    """Every sum afresh."""
    sim, chosen = np.asarray(sim, np.float64), [int(first)]
    while len(chosen) < k:
        left = [i for i in range(len(sim)) if i not in chosen]
        chosen.append(min(left, key=lambda i: sum(sim[i, s] for s in chosen)))
    return chosen


def thin_out(ranked, sim, reach, k):
    """Filters the list of those that are left after every pick."""
    place, chosen, left = {token: r for r, token in enumerate(ranked)}, [], list(ranked)
    while left:
        chosen.append(left[0])
        left = [i for i in left[1:] if np.float32(1) - sim[chosen[-1], i] >= reach[place[chosen[-1]]]]
    return [*chosen, *(i for i in ranked if i not in chosen)][:k]


@pytest.mark.parametrize("n", [1, 2, 60])
def test_least_similar_picks_what_brute_force_picks(n):
    sim = similarity(n)
    assert ops.least_similar(sim, n, n // 2).tolist() == least_similar(sim, n, n // 2)
    assert device_loops.greedy_least_similar(sim, torch.tensor(n // 2), n).tolist() == least_similar(sim, n, n // 2)


@settings(max_examples=60, deadline=None)
@given(sim=symmetric(), data=st.data())
def test_least_similar_picks_what_brute_force_picks_with_ties(sim, data):
    first, k = data.draw(st.integers(0, len(sim) - 1)), data.draw(st.integers(1, len(sim)))
    expected = least_similar(sim, k, first)
    assert ops.least_similar(torch.from_numpy(sim), k, first).tolist() == expected
    assert device_loops.greedy_least_similar(torch.from_numpy(sim), torch.tensor(first), k).tolist() == expected


def test_least_similar_golden_order():
    # 2 is opposite to 0; then 1 and 3 are at right angles to both, and after 1 the two duplicates 3 and 4 are alike.
    sim = scaling.cosine_similarity(torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 1], [0, 0, 1]]))
    assert ops.least_similar(sim, 5, 0).tolist() == [0, 2, 1, 3, 4]


@settings(max_examples=100, deadline=None)
@given(sim=symmetric(), data=st.data())
def test_thin_out_picks_what_brute_force_picks(sim, data):
    n = len(sim)
    ranked = data.draw(st.permutations(range(n)))
    reach = data.draw(hnp.arrays(np.float32, n, elements=coarse))
    k = data.draw(st.integers(1, n))
    given_ = torch.tensor(ranked), torch.from_numpy(sim), torch.from_numpy(reach), k
    expected = thin_out(ranked, sim, reach, k)
    assert ops.thin_out(*given_).tolist() == expected
    assert device_loops.thin_out(*given_).tolist() == expected


def test_thin_out_golden_order():
    # 0 and 1 lie 0.1 apart, 2 and 3 lie 0.2 apart; the reach of rank 0 is too short, that of rank 2 long enough.
    sim = torch.eye(4)
    sim[0, 1] = sim[1, 0] = 0.9
    sim[2, 3] = sim[3, 2] = 0.8
    ranked, reach = torch.tensor([0, 1, 2, 3]), torch.tensor([0.05, 0.15, 0.25, 0.35])
    assert ops.thin_out(ranked, sim, reach, 4).tolist() == [0, 1, 2, 3]
    assert ops.thin_out(ranked, sim, reach * 4, 4).tolist() == [0, 2, 1, 3]
    assert ops.thin_out(ranked.flip(0), sim, torch.full((4,), 0.15), 4).tolist() == [3, 2, 1, 0]
    assert ops.thin_out(ranked.flip(0), sim, torch.full((4,), 0.15), 3).tolist() == [3, 2, 1]


def test_the_device_forms_never_fetch_a_value(monkeypatch):
    sim, first, ranked, reach = similarity(9), torch.tensor(2), torch.randperm(9), scores(9)
    with no_fetching(monkeypatch):
        device_loops.greedy_least_similar(sim, first, 4)
        device_loops.thin_out(ranked, sim, reach, 4)


def test_inputs_stay_untouched_and_may_be_views():
    sim, reach, ranked = similarity(80)[::2, ::2], scores(80)[::2], torch.arange(80)[::2] // 2
    before = sim.clone(), reach.clone(), ranked.clone()
    ops.least_similar(sim, 20, 3)
    ops.thin_out(ranked, sim, reach, 20)
    scaling.share(reach)
    ops.topk_by_level(ranked, reach, 20)
    assert all(torch.equal(now, then) for now, then in zip((sim, reach, ranked), before, strict=True))


def test_warm_up_compiles_the_walks_for_the_types_in_use():
    ops.warm_up()
    ops.least_similar(similarity(20), 9, torch.tensor(3))
    ops.thin_out(ops.topk(scores(20), 20), similarity(20), scores(20), 9)
    for kernel in (kernels.greedy_least_similar, kernels.thin_out):
        assert len(kernel.signatures) == 1, kernel


def test_walks_refuse_what_does_not_fit():
    sim = similarity(5)
    with pytest.raises(ValueError, match="whole number from 1 to 5"):
        ops.least_similar(sim, 6, 0)
    with pytest.raises(ValueError, match=r"reach must be \(5,\) float32, not \(4,\)"):
        ops.thin_out(torch.arange(5), sim, torch.ones(4), 2)
    with pytest.raises(ValueError, match=r"similarity must be \(N, N\)"):
        ops.thin_out(torch.arange(5), sim[:, :4], torch.ones(5), 2)


def test_topk_by_level_goes_by_level_then_by_score_then_by_place():
    level, values = torch.tensor([0, 1, 0, 1, 2, 0]), torch.tensor([0.9, 0.1, 0.5, 0.1, 0.0, 0.9])
    assert ops.topk_by_level(level, values, 6).tolist() == [4, 1, 3, 0, 5, 2]
    assert ops.topk_by_level(level, values, 4).tolist() == [4, 1, 3, 0]


def test_share_sums_to_1_at_any_scale():
    values = torch.tensor([1.0, 3, 0, 4])
    for scale in (1, 1e37, 1e-37):
        assert scaling.share(values * scale).tolist() == pytest.approx([0.125, 0.375, 0, 0.5])
    assert scaling.share(torch.zeros(4)).tolist() == [0.25] * 4
    assert scaling.share(torch.tensor([-1.0, 1, 1])).tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_all_finite_sees_one_value_anywhere(bad):
    values = torch.linspace(-1e38, 1e38, 3 * 1025).view(3, 1025)
    assert scaling.all_finite(values)
    for place in (0, 1, 1500, 3074):
        broken = values.clone()
        broken.view(-1)[place] = bad
        assert not scaling.all_finite(broken)
        assert not scaling.all_finite(broken.to(torch.bfloat16))
