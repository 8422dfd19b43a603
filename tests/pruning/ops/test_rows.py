"""Rules that read rows or few pairs, from the features: the picks of a brute-force search, and no N×N matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pruning import make, ops, spreading
from pruning.evaluation import peak
from pruning.ops import lazy, rows, scaling
from tests.helpers import oracles
from tests.helpers.samples import features, sample, scores
from tests.pruning.ops.test_lazy import ROWS, cosines, every_kind, outliers
from tests.pruning.ops.test_walks import least_similar, thin_out

SIZES = (1, 2, 63, 65, 150)


def smooth(n: int, width: int = 40) -> torch.Tensor:
    """Neighbours resemble each other, as in a picture."""
    steps = features(n + 8, width).cumsum(dim=0)
    return steps[8:] - steps[:-8] + 2 * features(1, width, seed=9)


@every_kind
@pytest.mark.parametrize("n", SIZES)
def test_least_similar_picks_what_brute_force_picks(kind, n):
    told = ROWS[kind](n)
    assert rows.least_similar(told, n, n // 2).tolist() == least_similar(cosines(told), n, n // 2)


@every_kind
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("limit", [0.0, 0.3, 1.2, 2.5])
def test_thin_out_picks_what_brute_force_picks(kind, n, limit):
    told, ranked = ROWS[kind](n), torch.randperm(n, generator=torch.Generator().manual_seed(n))
    reach = torch.linspace(0, limit, n)
    for k in {1, (n + 1) // 2, n}:
        expected = thin_out(ranked.tolist(), cosines(told), reach.numpy(), k)
        assert lazy.thin_out(ranked, told, reach, k).tolist() == expected


@pytest.mark.parametrize("make_rows", [features, outliers, smooth])
@pytest.mark.parametrize("n", [1, 2, 30])
def test_dpp_picks_what_brute_force_picks(make_rows, n):
    told, quality = make_rows(n), scores(n)
    k = min(n, 9)
    assert rows.dpp(quality, told, k).tolist() == oracles.dpp(quality, oracles.cosine(told), k)


@pytest.mark.parametrize("make_rows", [features, smooth])
@pytest.mark.parametrize("step", [1, 3, 8])
def test_deduplicate_keeps_what_brute_force_keeps(make_rows, step):
    told = make_rows(160)
    for n in (1, 2, 40, 150):
        ranking = torch.randperm(160, generator=torch.Generator().manual_seed(n))[:n]
        for k in {0, 1, n // 5, n // 2, n - 1, n}:
            expected = oracles.deduplicate(ranking.tolist(), cosines(told), k, step)
            assert rows.deduplicate(told, ranking, k, step).tolist() == expected


def test_deduplicate_looks_beyond_the_closest_that_are_remembered(monkeypatch):
    monkeypatch.setattr(rows, "CLOSEST", 2)
    told, ranking = smooth(120), torch.arange(120)
    for k in (1, 20, 90):
        assert rows.deduplicate(told, ranking, k).tolist() == oracles.deduplicate(range(120), cosines(told), k)


def test_rows_are_those_of_the_matrix():
    told = smooth(300, 60)
    alike, unit = scaling.cosine_similarity(told).numpy(), scaling.unit_rows(told)
    for asked in ([7], [299, 0], list(range(40, 104))):
        np.testing.assert_allclose(rows._rows(unit, asked), alike[asked], rtol=0, atol=1e-6)


coarse = st.integers(-2, 2).map(float)  # duplicates and rows of zeros are the rule


@settings(max_examples=80, deadline=None)
@given(data=st.data(), n=st.integers(1, 14))
def test_picks_are_those_of_the_matrix_with_ties(data, n):
    # Axes: their cosines are exact in any product, so that ties stay ties.
    axis = data.draw(hnp.arrays(np.int64, n, elements=st.integers(-3, 3)))
    told = torch.zeros(n, 3)
    for i, along in enumerate(axis):
        told[i, abs(along) - 1] = float(np.sign(along))
    weight = torch.from_numpy(np.abs(data.draw(hnp.arrays(np.float32, n, elements=coarse))))
    k, alike = data.draw(st.integers(1, n)), scaling.cosine_similarity(told)
    ranked = torch.tensor(data.draw(st.permutations(range(n))))
    assert torch.equal(rows.dpp(weight, told, k), ops.dpp(weight, alike, k))
    assert torch.equal(rows.least_similar(told, k, n - 1), ops.least_similar(alike, k, n - 1))
    assert torch.equal(rows.deduplicate(told, ranked, k - 1), ops.deduplicate(ranked, alike, k - 1))
    assert torch.equal(lazy.thin_out(ranked, told, weight, k), ops.thin_out(ranked, alike, weight, k))


def test_of_equal_tokens_the_lower_index_is_first():
    n = rows.HELD + 2 * rows.AHEAD + 5
    same = torch.ones(n, 7)
    assert rows.least_similar(same, n, 0).tolist() == list(range(n))
    assert rows.dpp(torch.ones(n), same, n).tolist() == list(range(n))
    assert lazy.thin_out(torch.arange(n), same, torch.ones(n), n).tolist() == list(range(n))
    pairs = features(100, 300).repeat_interleave(2, dim=0)
    for order in (rows.dpp(scores(100).repeat_interleave(2), pairs, 200), rows.least_similar(pairs, 200, 0)):
        place = {token: at for at, token in enumerate(order.tolist())}
        assert all(place[2 * i] < place[2 * i + 1] for i in range(100))


def test_every_prefix_and_all_of_the_tokens():
    told, quality = smooth(400, 60), scores(400)
    dpp, apart = rows.dpp(quality, told, 400), rows.least_similar(told, 400, 7)
    assert torch.equal(dpp, ops.dpp(quality, scaling.cosine_similarity(told), 400))
    assert sorted(apart.tolist()) == list(range(400))
    for k in (1, 7, 90, 399):
        assert torch.equal(rows.dpp(quality, told, k), dpp[:k])
        assert torch.equal(rows.least_similar(told, k, 7), apart[:k])


def test_inputs_stay_untouched_and_may_be_views():
    told = torch.stack([features(90)] * 2, dim=2)[:, :, 0]
    quality, ranked = torch.stack([scores(90)] * 2, dim=1)[:, 0], torch.arange(180)[::2] // 2
    before = told.clone(), quality.clone(), ranked.clone()
    assert torch.equal(rows.dpp(quality, told, 30), rows.dpp(before[1], before[0], 30))
    rows.least_similar(told, 30, torch.tensor(3))
    rows.deduplicate(told, ranked, 30)
    lazy.thin_out(ranked, told, quality, 30)
    assert all(torch.equal(now, then) for now, then in zip((told, quality, ranked), before, strict=True))


def test_bad_input_is_refused():
    told = features(5)
    for bad, message in (
        (told.double(), "float32"),
        (told[0], r"\(N, D\)"),
        (torch.full((5, 3), torch.nan), "NaN"),
        (torch.full((5, 3), torch.inf), "infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            rows.dpp(scores(5), bad, 2)
        with pytest.raises(ValueError, match=message):
            rows.least_similar(bad, 2, 0)
        with pytest.raises(ValueError, match=message):
            rows.deduplicate(bad, torch.arange(5), 2)
        with pytest.raises(ValueError, match=message):
            lazy.thin_out(torch.arange(5), bad, scores(5), 2)
    with pytest.raises(ValueError, match="budget 6"):
        rows.dpp(scores(5), told, 6)
    with pytest.raises(ValueError, match="budget 0"):
        rows.least_similar(told, 0, 0)
    with pytest.raises(ValueError, match="negative"):
        rows.dpp(-scores(5), told, 2)
    with pytest.raises(ValueError, match=r"reach must be \(5,\)"):
        lazy.thin_out(torch.arange(5), told, scores(4), 2)


METHODS = ("cdpruner", "dpp", "todre", "agile_pruner", "vispruner", "flashvlm")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("width", [40, 400])
def test_methods_make_no_matrix_and_use_the_one_that_is_there(name, width, monkeypatch):
    monkeypatch.setattr(spreading, "MANY", 0)
    method = make(name)
    without, beside = sample(300, width, needs=method.needs), sample(300, width, needs=method.needs)
    signal = "pre_projector" in method.needs
    there = beside.similarity_of("pre_projector") if signal else beside.similarity
    assert there.shape == (300, 300)
    assert torch.equal(method.select(without, 75).order, method.select(beside, 75).order)
    assert not without.compared
    assert len(beside.compared) == 1


@pytest.mark.parametrize("name", METHODS)
def test_methods_hold_less_than_the_matrix(name):
    n, cpu = 4096, torch.device("cpu")
    method = make(name)
    method.select(sample(80, 32, needs=method.needs), 20)  # compiles
    held = []
    for matrix in (True, False):
        tokens = sample(n, 32, needs=method.needs)
        if not peak.begin(cpu):
            pytest.skip("the most memory held cannot be told here")
        before = peak.peak_bytes(cpu)
        if matrix:
            _ = tokens.similarity_of("pre_projector") if "pre_projector" in method.needs else tokens.similarity
        method.select(tokens, n // 10)
        held.append(peak.peak_bytes(cpu) - before)
    assert held[1] < n * n * 4 < held[0]
