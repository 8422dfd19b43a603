"""What sets each method apart; what all have in common is in test_contracts."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pytest
import torch

from pruning import METHODS, Grid, Method, Selection, VisualTokens, make, ops, register
from pruning.allocation import select_within
from pruning.importance import SOURCES, raw_importance, signals_for
from pruning.methods.dtop import ordered
from pruning.params import Range, params
from tests.helpers import oracles
from tests.helpers.samples import features, sample, scores


def unit(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


GOLDEN = VisualTokens(
    unit(0, 5, 40, 90, 97, 170),
    (Grid(1, 2, 3),),
    {"scorer": torch.tensor([9.0, 8, 5, 4, 6, -1])},
)


@pytest.mark.parametrize(
    ("method", "order"),
    [
        (make("idpruner"), [0, 5, 4, 1, 2, 3]),
        (make("idpruner", mmr_lambda=1), [0, 1, 4, 2, 3, 5]),
        (make("idpruner", mmr_lambda=0), [0, 5, 3, 2, 4, 1]),
        (make("vision_selector"), [0, 1, 4, 2, 3, 5]),
        (make("greedy_importance"), [0, 1, 4, 2, 3, 5]),
        (make("divprune"), [5, 0, 3, 2, 4, 1]),
        (make("greedy_diversity"), [5, 0, 3, 2, 4, 1]),
        (make("dpp"), [0, 4, 1, 2, 3, 5]),
        (make("uniform"), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_golden_pick_orders(method, order):
    assert method.select(GOLDEN, 6).order.tolist() == order
    if method.nested:
        assert method.select(GOLDEN, 3).order.tolist() == order[:3]


def idpruner(method, tokens, k):
    w = importance(method, tokens)
    if method.variant == "paper":
        w = oracles.soft_topk(w, math.floor(tokens.n * 0.2 + 0.5))
    return oracles.mmr((w - min(w)) / (max(w) - min(w)), oracles.cosine(tokens.features), k, method.mmr_lambda)


def highest(method, tokens, k):
    w = importance(method, tokens)
    return sorted(range(tokens.n), key=lambda i: (-w[i], i))[:k]


def highest_by_module(method, tokens, k):
    scores = tokens.signal("covipal").numpy()
    return sorted(range(tokens.n), key=lambda i: (-scores[i], i))[:k]


def most_relevant(method, tokens, k):
    rows = tokens.signal("qtsplus").double().tolist()
    if method.budget == "own":
        k = min(k, 512, max(1, math.ceil(sum(min(max(share, 0), 1) for _, share in rows) - 1e-4)))
    return sorted(range(tokens.n), key=lambda i: (-rows[i][0], i))[:k]


def divprune(method, tokens, k):
    return oracles.farthest_point(oracles.cosine(tokens.features), k)


def greedy_diversity(method, tokens, k):
    similarity = oracles.cosine(tokens.features)
    totals = [sum(row) for row in similarity]
    return oracles.farthest_point(similarity, k, totals.index(min(totals)))


def naive_hybrid(method, tokens, k):
    size = math.floor(k + (1 - method.mmr_lambda) * (tokens.n - k) + 0.5)
    pool = highest(method, tokens, size)
    return oracles.farthest_point(oracles.cosine(tokens.features), k, pool[0], sorted(pool))


def dtop(method, tokens, k):
    odds = [[math.exp(x) for x in row] for row in tokens.signal("dtop").double().tolist()]
    sure = [max(row) / sum(row) for row in odds]
    classes = [row.index(max(row)) for row in odds]
    order = []
    for turn in range(method.per_class):
        found = []
        for one in set(classes):
            own = sorted((i for i in range(tokens.n) if classes[i] == one), key=lambda i: (-sure[i], i))
            found += own[turn : turn + 1]
        order += sorted(found, key=lambda i: (-sure[i], i))
    order += sorted(set(range(tokens.n)) - set(order), key=lambda i: (sure[i], i))
    return order[:k]


def dpp(method, tokens, k):
    w = importance(method, tokens)
    return oracles.dpp((w - min(w)) / (max(w) - min(w)), oracles.cosine(tokens.features), k)


def importance(method, tokens):
    """(N,) by the method's source, in numpy."""
    features = tokens.features.numpy()
    source = getattr(method, "importance", "scorer")
    if source == "feature_norm":
        return np.array([np.sqrt((row**2).sum()) for row in features])
    if source == "relevance":
        words = [word / np.sqrt((word**2).sum()) for word in tokens.signal("question").numpy()]
        return np.array([oracles.cosine(np.stack([row, sum(words)]))[0, 1] for row in features])
    return tokens.signal({"scorer": "scorer", "vision_attention": "vision_attention@-1"}[source]).numpy()


ORACLES = {
    "idpruner": idpruner,
    "vision_selector": highest,
    "covipal": highest_by_module,
    "dtop": dtop,
    "qtsplus": most_relevant,
    "greedy_importance": highest,
    "divprune": divprune,
    "greedy_diversity": greedy_diversity,
    "naive_hybrid": naive_hybrid,
    "dpp": dpp,
}
SETTINGS = {
    make(name, **{param.name: value})
    for name in ORACLES
    for param in params(METHODS[name])
    for value in (param.choices if param.kind == "choice" else (param.lo, 1 if param.kind == "int" else 0.35, param.hi))
} | {make(name) for name in ORACLES}


@pytest.mark.parametrize("method", sorted(SETTINGS, key=repr), ids=repr)
@pytest.mark.parametrize(("n", "k"), [(2, 1), (7, 3), (26, 10)])
def test_picks_what_brute_force_picks(method, n, k):
    tokens = sample(n, seed=n)
    assert method.select(tokens, k).order.tolist() == ORACLES[method.name](method, tokens, k)


def test_dtop_keeps_the_surest_of_every_class_and_then_the_least_sure():
    """Classes a, a, a, b, b, b with confidences .9 to .4; among tokens that show the same, the first come first."""
    sure = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    classes = torch.tensor([0, 0, 0, 1, 1, 1])
    assert ordered(sure, classes, 1).tolist() == [0, 3, 5, 4, 2, 1]
    assert ordered(sure, classes, 0).tolist() == [5, 4, 3, 2, 1, 0]
    assert ordered(sure, classes, 3).tolist() == [0, 3, 1, 4, 2, 5]
    assert ordered(torch.ones(4), torch.zeros(4, dtype=torch.int64), 2).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("n", "share", "kept"), [(10, 0.24, 3), (20, 0.05, 1), (3, 0.05, 1), (2000, 0.5, 512)])
def test_qtsplus_keeps_at_most_its_own_budget(n, share, kept):
    """⌈ρ·N⌉, one at least and 512 at most; a smaller budget holds; parts have their shares of it."""
    rows = torch.stack([features(n, 1)[:, 0], torch.full((n,), share)], 1)
    tokens, own = sample(n, needs=()).with_signals(qtsplus=rows), make("qtsplus", budget="own")
    assert own.limit(tokens) == own.select(tokens, n).k == kept
    assert own.select(tokens, 1).k == 1
    assert make("qtsplus").select(tokens, n).k == n
    highest_first = rows[:, 0].sort(descending=True, stable=True).indices
    assert torch.equal(own.select(tokens, n).order, highest_first[:kept])


def test_qtsplus_gives_every_picture_its_share_of_its_own_budget():
    grids = (Grid(1, 2, 5), Grid(1, 2, 10, 10, image=1))
    rows = torch.stack([torch.arange(30.0), torch.tensor([0.2] * 10 + [0.5] * 20)], 1)
    tokens = sample(30, needs=(), grids=grids).with_signals(qtsplus=rows)
    own = make("qtsplus", budget="own")
    assert select_within(own, tokens, 1.0, "image").indices.tolist() == [8, 9, *range(20, 30)]
    assert select_within(own, tokens, 1.0).indices.tolist() == [*range(18, 30)]
    assert select_within(own, tokens, 0.1, "image").indices.tolist() == [9, 28, 29]


def test_idpruner_does_not_depend_on_the_scale_of_importance():
    tokens = sample(50)
    scaled = tokens.with_signals(scorer=tokens.signal("scorer") * 1024 - 7)
    tiny = tokens.with_signals(scorer=tokens.signal("scorer") * 2**-30)
    order = make("idpruner").select(tokens, 20).order
    assert torch.equal(make("idpruner").select(scaled, 20).order, order)
    assert torch.equal(make("idpruner").select(tiny, 20).order, order)


def test_idpruner_paper_form_takes_the_scores_after_the_soft_topk():
    tokens = sample(50).with_signals(scorer=features(50, 1, seed=5)[:, 0] * 6)
    soft = tokens.with_signals(scorer=ops.soft_topk(tokens.signal("scorer"), 10))
    paper = make("idpruner", variant="paper").select(tokens, 20).order
    assert torch.equal(paper, make("idpruner").select(soft, 20).order)
    assert not torch.equal(paper, make("idpruner").select(tokens, 20).order)


def test_both_ends_of_the_naive_hybrid_are_those_of_mmr():
    tokens = sample(50)
    for mmr_lambda in (0, 1):
        hybrid = make("naive_hybrid", mmr_lambda=mmr_lambda).select(tokens, 12)
        assert torch.equal(hybrid.indices, make("idpruner", mmr_lambda=mmr_lambda).select(tokens, 12).indices)


def test_dpp_with_constant_importance_goes_by_similarity():
    tokens = sample(30)
    flat = tokens.with_signals(scorer=torch.full((30,), 3.0))
    assert make("dpp").select(flat, 8).order.tolist() == oracles.dpp(torch.ones(30), tokens.similarity, 8)


def test_random_depends_on_its_seed_alone():
    a, b = sample(40, seed=1), sample(40, seed=2)
    assert torch.equal(make("random").select(a, 9).order, make("random").select(b, 9).order)
    assert not torch.equal(make("random").select(a, 9).order, make("random", seed=1).select(a, 9).order)


@pytest.mark.parametrize(
    "grids",
    [
        (Grid(1, 8, 8),),
        (Grid(1, 1, 57),),
        (Grid(1, 57, 1),),
        (Grid(1, 3, 40),),
        (Grid(5, 3, 4),),
        (Grid(1, 2, 3), Grid(4, 2, 2, 6), Grid(1, 9, 5, 22)),
    ],
)
def test_uniform_keeps_exactly_k_on_any_grid(grids):
    n = grids[-1].stop
    tokens = VisualTokens(features(n), grids)
    for k in range(1, n + 1):
        order = make("uniform").select(tokens, k).order
        assert len(order) == k
        assert torch.equal(order, order.sort().values)
        for grid in grids:
            inside = int(((order >= grid.start) & (order < grid.stop)).sum())
            assert abs(inside - k * grid.count / n) < 1


def test_uniform_is_a_regular_grid_where_k_allows_it():
    tokens = VisualTokens(features(64), (Grid(1, 8, 8),))
    expected = [row * 8 + column for row in (1, 3, 5, 7) for column in (1, 3, 5, 7)]
    assert make("uniform").select(tokens, 16).order.tolist() == expected


def test_uniform_spreads_over_rows_and_columns():
    tokens = VisualTokens(features(256), (Grid(1, 16, 16),))
    for k in (4, 9, 20, 50, 100):
        kept = make("uniform").select(tokens, k).order
        for axis in (kept // 16, kept % 16):
            assert axis.min() < 16 / k**0.5
            assert axis.max() >= 16 - 16 / k**0.5 - 1


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["idpruner", "greedy_importance", "naive_hybrid", "dpp"])
def test_needs_follow_the_importance_source(name, source):
    method = make(name, importance=source)
    assert method.needs == signals_for(source)
    tokens = sample(20)
    least = VisualTokens(tokens.features, tokens.grids, {need: tokens.signal(need) for need in method.needs})
    assert method.select(least, 5).k == 5


def test_importance_sources():
    tokens = sample(20)
    assert torch.equal(raw_importance(tokens, "scorer", "x"), tokens.signal("scorer"))
    assert torch.equal(raw_importance(tokens, "vision_attention", "x"), tokens.signal("vision_attention@-1"))
    torch.testing.assert_close(raw_importance(tokens, "feature_norm", "x"), tokens.features.norm(dim=1))
    aimed = tokens.with_signals(question=tokens.features[7:8] * 3)
    assert raw_importance(aimed, "relevance", "x").argmax() == 7
    with pytest.raises(ValueError, match=r"unknown importance source 'depth'; known sources: scorer, "):
        raw_importance(tokens, "depth", "x")


@pytest.mark.parametrize(
    ("source", "signal", "wrong", "message"),
    [
        ("scorer", "scorer", torch.zeros(19), r"idpruner: signal 'scorer' has shape \(19,\) but must be \(20,\)"),
        ("scorer", "scorer", torch.zeros(20, 1), r"has shape \(20, 1\)"),
        ("relevance", "question", torch.zeros(12), r"must be \(M, 12\)"),
        ("relevance", "question", torch.zeros(0, 12), r"must be \(M, 12\)"),
        ("relevance", "question", torch.zeros(3, 11), r"must be \(M, 12\)"),
        ("scorer", "scorer", torch.full((20,), torch.nan), r"idpruner: signal 'scorer' \(20,\) holds NaN"),
        ("relevance", "question", torch.full((2, 12), torch.inf), r"idpruner: signal 'question' \(2, 12\) holds"),
    ],
)
def test_a_bad_signal_is_refused_by_method_name_and_shape(source, signal, wrong, message):
    with pytest.raises(ValueError, match=message):
        make("idpruner", importance=source).select(sample(20).with_signals({signal: wrong}), 5)


def test_half_precision_signals_are_read_in_float32():
    tokens = sample(20).with_signals(scorer=scores(20).to(torch.bfloat16))
    assert make("idpruner").select(tokens, 5).scores.dtype == torch.float32


def test_make_lists_what_is_known():
    with pytest.raises(ValueError, match=f"unknown method 'fastest'; known methods: {', '.join(sorted(METHODS))}"):
        make("fastest")
    with pytest.raises(ValueError, match=r"idpruner has no knob 'alpha'; its knobs: importance, mmr_lambda, variant"):
        make("idpruner", alpha=1)
    with pytest.raises(ValueError, match="divprune has no knob 'x'; its knobs: none"):
        make("divprune", x=1)
    with pytest.raises(ValueError, match=r"mmr_lambda = 1\.5 is not allowed"):
        make("idpruner", mmr_lambda=1.5)


def test_a_new_method_is_one_class(monkeypatch):
    monkeypatch.setattr("pruning.method.METHODS", dict(METHODS))

    @register
    @dataclass(frozen=True)
    class Last(Method):
        """Keep the last tokens."""

        name: ClassVar[str] = "last"
        title: ClassVar[str] = "Last"
        skip: Annotated[int, Range(0, 9, 1, label="skip")] = 0

        def pick(self, tokens: VisualTokens, budget: int) -> Selection:
            return Selection(torch.arange(tokens.n - budget, tokens.n), tokens.n)

    assert make("last", skip=2).select(sample(5), 2).order.tolist() == [3, 4]
    with pytest.raises(TypeError, match="taken by Last"):
        register(Last)


def test_register_refuses_what_is_no_complete_method():
    class Forgotten(METHODS["divprune"]):
        name = "forgotten"

    with pytest.raises(TypeError, match="frozen dataclass"):
        register(Forgotten)

    @dataclass(frozen=True)
    class Untitled(Method):
        name: ClassVar[str] = "untitled"

    with pytest.raises(TypeError, match="title"):
        register(Untitled)
