"""The methods that read the question, the features before the projector, or the projector itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pruning import METHODS, Grid, VisualTokens, make, ops
from pruning.ops import scaling
from pruning.params import params
from tests.helpers import oracles
from tests.helpers.samples import sample


def rows(tensor):
    return [np.asarray(row, np.float64) for row in tensor]


def cosine(a, b):
    return float(a @ b / (math.sqrt(a @ a) * math.sqrt(b @ b)))


def table(a, b):
    """Cosine of every row of a to every row of b."""
    return np.array([[cosine(x, y) for y in rows(b)] for x in rows(a)])


def softmax(values):
    weights = np.exp(np.asarray(values) - max(values))
    return weights / weights.sum()


def to_unit_range(values):
    values = np.asarray(values, np.float64)
    return (values - values.min()) / (values.max() - values.min())


def zoo_prune(method, tokens, k):
    """One token and one direction at a time; the directions are those that the seed stands for."""
    directions = torch.randn(method.m, 9, generator=torch.Generator().manual_seed(method.seed)).double()
    sensitivity = np.zeros(tokens.n)
    for direction in directions:
        move = (method.h * direction / direction.norm()).float()
        there, back = (rows(tokens.signal("projector")(x)) for x in (move, -move))
        for i in range(tokens.n):
            sensitivity[i] += math.dist(there[i], back[i]) / (2 * method.h) / method.m
    similarity = table(tokens.features, tokens.features)
    return oracles.weighted_farthest_point(to_unit_range(sensitivity), similarity, k)


def mmtok(method, tokens, k):
    """Spells f(S) out for every candidate set."""
    text = [softmax(row / method.tau_text) for row in table(tokens.signal("question"), tokens.features)]
    before = tokens.signal("pre_projector")
    visual = [softmax(row / method.tau_visual) for row in table(before, before)]

    def f(chosen):
        covered = [sum(max(row[j] for j in chosen) for row in part) / len(part) for part in (text, visual)]
        return covered[0] + method.alpha * covered[1]

    chosen = []
    while len(chosen) < k:
        left = [i for i in range(tokens.n) if i not in chosen]
        chosen.append(max(left, key=lambda i: f([*chosen, i])))
    return chosen


def catp_first(method, tokens, k):
    """Spells f(Y) out for every candidate set of an image."""
    word, chosen = np.mean([np.asarray(row) for row in rows(tokens.signal("question"))], axis=0), []
    alike = (1 + table(tokens.features, tokens.features)) / 2
    near = (1 + np.array([cosine(x, word) for x in rows(tokens.features)])) / 2
    images = tokens.images.tolist()
    while len(chosen) < k:
        served = {image: (sum(images[i] == image for i in chosen) + 0.5) / images.count(image) for image in images}
        image = min((n for n in served if served[n] < 1), key=served.__getitem__)  # whose turn it is
        own = [i for i in range(tokens.n) if images[i] == image]
        picked = [i for i in chosen if images[i] == image]
        worth = {
            i: sum(max(alike[x, y] for y in [*picked, i]) for x in own)
            + method.relevance * sum(near[y] for y in [*picked, i])
            for i in own
            if i not in picked
        }
        chosen.append(max(worth, key=worth.__getitem__))
    return chosen


def test_catp_s_images_take_turns():
    tokens = sample(24, grids=(Grid(1, 2, 3), Grid(1, 3, 6, start=6, image=1)))
    for k in (1, 5, 9, 24):
        order = make("catp_first").select(tokens, k).order.tolist()
        assert order == catp_first(make("catp_first"), tokens, k)
    assert sum(i < 6 for i in make("catp_first").select(tokens, 8).order.tolist()) == 2


def scope(method, tokens, k):
    before = tokens.signal("pre_projector")
    attention = np.asarray(tokens.signal(f"vision_attention@{method.layer}"), np.float64)
    return oracles.coverage(table(before, before), k, attention**method.alpha)


def cdpruner(method, tokens, k):
    sign = 1 if method.variant == "paper" else -1
    relevance = to_unit_range([sign * np.mean(row) for row in table(tokens.features, tokens.signal("question"))])
    return oracles.dpp(relevance, table(tokens.features, tokens.features), k)


def best_and_diverse(scores, tokens, k, share):
    before = tokens.signal("pre_projector")
    ranking, important = sorted(range(tokens.n), key=lambda i: scores[i], reverse=True), int(share * k)
    rest = oracles.deduplicate(ranking[important:], table(before, before), k - important)
    return ranking[:important] + rest


def vispruner(method, tokens, k):
    attention = tokens.signal(f"vision_attention@{method.layer}").tolist()
    return best_and_diverse(attention, tokens, k, method.important)


def flashvlm(method, tokens, k):
    words = rows(tokens.signal("question"))
    longest = max(np.linalg.norm(word) for word in words)
    found = []
    for token in rows(tokens.features):
        match = [cosine(token, word) * np.linalg.norm(word) / longest for word in words]
        found.append(sum(p * m for p, m in zip(softmax(np.array(match) / 0.05), match, strict=True)))
    sharp = to_unit_range(softmax(np.array(found) / method.temperature) ** method.gamma)
    bar = np.quantile(sharp, 1 - method.top)
    sharp = to_unit_range([x if x >= bar else 0.1 * x for x in sharp])
    attention = to_unit_range(tokens.signal(f"vision_attention@{method.layer}"))
    fused = [
        max(a, 1e-6) ** (1 - method.eta) * max(s, 1e-6) ** method.eta for a, s in zip(attention, sharp, strict=True)
    ]
    return best_and_diverse(list(zip(fused, found, strict=True)), tokens, k, method.important)


ORACLES = {
    "zoo_prune": zoo_prune,
    "mmtok": mmtok,
    "catp_first": catp_first,
    "flashvlm": flashvlm,
    "scope": scope,
    "cdpruner": cdpruner,
    "vispruner": vispruner,
}

# Ties in exact arithmetic, which rounding decides; both have a test of their own below.
TIED = {
    make("scope", alpha=0): "of two tokens that are each other's nearest, either covers as much",
    make("mmtok", alpha=0): "a few tokens cover all words, after which next to nothing is gained",
}
SETTINGS = {
    make(name, **{param.name: value})
    for name in ORACLES
    for param in params(METHODS[name])
    for value in (param.choices if param.kind == "choice" else (param.lo, param.default, param.hi))
}


@pytest.mark.parametrize("method", sorted(SETTINGS - set(TIED), key=repr), ids=repr)
@pytest.mark.parametrize(("n", "k"), [(7, 3), (26, 10), (33, 11)])
def test_picks_what_brute_force_picks(method, n, k):
    tokens = sample(n, needs=method.needs, seed=n)
    assert method.select(tokens, k).order.tolist() == ORACLES[method.name](method, tokens, k)


# Token 1 nearly repeats 0 and token 4 nearly repeats 3. The question points at 90°, where token 3 is.
ANGLES = torch.tensor([0.0, 5, 40, 90, 97, 170]).deg2rad()
UNIT = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
GOLDEN = VisualTokens(
    UNIT,
    (Grid(1, 2, 3),),
    {
        "vision_attention@-1": torch.tensor([0.9, 0.8, 0.5, 0.4, 0.6, 0.1]),
        "pre_projector": UNIT,
        "question": torch.tensor([[0.0, 2.0]]),
        # Token i answers a move with i + 1 times the move.
        "projector": lambda offset: UNIT + torch.arange(1.0, 7)[:, None] * offset,
    },
)


@pytest.mark.parametrize(
    ("method", "order"),
    [
        # Ŝ = 0, .2 ... 1. After 5: 2 with .4·1.64, then 4 with .8·.46, 1 with .2·.18, 3 with .6·.007.
        (make("zoo_prune"), [5, 2, 4, 1, 3, 0]),
        # 3 is the word; 1 covers 0, itself and most of 2; 5 lies alone.
        (make("mmtok"), [3, 1, 5, 2, 4, 0]),
        # sim = (1 + cos) / 2, and of that .7 to the word, which is 3; then 2 adds most by its own, and 5 lies alone.
        (make("catp_first"), [3, 2, 5, 4, 1, 0]),
        # .9·2.76, then .6·2.28, then .5·.23 before .1·.71.
        (make("scope"), [0, 4, 2, 5, 1, 3]),
        # r = 0, .09, .64, 1, .99, .17. Two directions are used up after 3 and 2; the rest goes by r.
        (make("cdpruner"), [3, 2, 4, 5, 1, 0]),
        (make("cdpruner", variant="code"), [0, 2, 1, 5, 4, 3]),
        # 0 and 1 by attention; of 4, 2, 3, 5 both at even places go, since two have to.
        (make("vispruner"), [0, 1, 2, 5]),
        # The other way round where 3 of 4 stay by attention: 2, 3, 5 are left, then 3, then 3.
        (make("vispruner", important=0.75), [0, 1, 4, 3]),
        # 3 and 4 have the relevance, then it is attention; of 0, 1, 2, 5 those at even places go.
        (make("flashvlm"), [3, 4, 1, 5]),
        (make("flashvlm", important=1), [3, 4, 0, 1]),
    ],
)
def test_golden_pick_orders(method, order):
    assert method.select(GOLDEN, len(order)).order.tolist() == order


@pytest.mark.parametrize("name", ["mmtok", "cdpruner", "flashvlm"])
def test_picks_follow_the_question(name):
    tokens = sample(40)
    for aim in (3, 17, 31):
        aimed = tokens.with_signals(question=tokens.features[aim : aim + 1] * 0.1)
        assert make(name).select(aimed, 10).order[0] == aim


# ZOO-Prune


def test_zoo_prune_measures_the_slope_of_the_projector():
    assert make("zoo_prune").select(GOLDEN, 6).scores.tolist() == pytest.approx([1, 2, 3, 4, 5, 6], rel=1e-3)
    humped = sample(20).with_signals(projector=lambda offset: torch.ones(20, 12) * offset.norm())
    assert make("zoo_prune").select(humped, 5).scores.abs().max() < 1e-5  # the same ahead and behind


def test_zoo_prune_runs_the_projector_twice_for_each_direction():
    tokens = sample(20)
    moves = []
    watched = tokens.with_signals(projector=lambda offset: moves.append(offset) or tokens.signal("projector")(offset))
    make("zoo_prune", m=5, h=0.03).select(watched, 4)
    assert len(moves) == 10
    torch.testing.assert_close(torch.stack(moves).norm(dim=1), torch.full((10,), 0.03))
    torch.testing.assert_close(torch.stack(moves[::2]), -torch.stack(moves[1::2]))


def test_zoo_prune_depends_on_its_seed_through_the_directions():
    tokens = sample(40)
    first, second = (make("zoo_prune", m=2, seed=seed).select(tokens, 9) for seed in (0, 1))
    assert not torch.equal(first.scores, second.scores)
    many = [scaling.minmax(make("zoo_prune", m=128, seed=seed).select(tokens, 9).scores) for seed in (0, 1)]
    assert (many[0] - many[1]).abs().max() < 0.2


def test_zoo_prune_with_equal_sensitivities_spreads():
    tokens = sample(30).with_signals(projector=lambda offset: offset[:1].expand(30, 12))
    order = make("zoo_prune").select(tokens, 8).order.tolist()
    assert order == oracles.farthest_point(tokens.similarity, 8, 0)


@pytest.mark.parametrize(
    ("projector", "message"),
    [
        (lambda offset: torch.zeros(10, 11), r"'projector' gives \(10, 11\) but must give \(10, 12\)"),
        (lambda offset: torch.full((10, 12), torch.inf), "'projector' gives NaN or infinite values"),
    ],
)
def test_zoo_prune_refuses_what_is_no_projector(projector, message):
    with pytest.raises(ValueError, match=f"zoo_prune: signal {message}"):
        make("zoo_prune").select(sample(10).with_signals(projector=projector), 3)


# MMTok and SCOPE


def test_mmtok_without_the_picture_covers_the_words_and_goes_on_by_what_each_covers():
    tokens = sample(30)
    far_apart = tokens.with_signals(question=tokens.features[[4, 11, 20]])
    order = make("mmtok", alpha=0).select(far_apart, 30).order.tolist()
    assert set(order[:3]) == {4, 11, 20}
    one_word = tokens.with_signals(question=tokens.features[4:5])
    order = make("mmtok", alpha=0, tau_text=0.5).select(one_word, 30).order
    assert torch.equal(order, ops.topk(tokens.similarity[4], 30))


def test_mmtok_gives_the_question_a_weight_of_1_and_the_picture_of_alpha():
    for alpha in (0, 0.5, 2):
        for words in (1, 7):
            tokens = sample(30).with_signals(question=sample(7).features[:words])
            scores = make("mmtok", alpha=alpha).select(tokens, 5).scores
            assert scores.sum().item() == pytest.approx(1 + alpha, rel=1e-5)


def test_scope_without_attention_is_facility_location():
    tokens = sample(30, seed=8)
    similarity = scaling.cosine_similarity(tokens.signal("pre_projector"))
    order = make("scope", alpha=0).select(tokens, 12).order
    assert torch.equal(order, ops.coverage(similarity, 12))
    # As good a cover as the oracle's, whichever of two tokens that cover the same it took.
    best = oracles.coverage(similarity, 12)
    covered = [similarity[:, picks].max(dim=1).values.clamp(min=0).sum().item() for picks in (order, best)]
    assert covered[0] == pytest.approx(covered[1], rel=1e-5)


def test_scope_does_not_depend_on_the_scale_of_attention():
    tokens = sample(40)
    attention = tokens.signal("vision_attention@-1")
    for alpha in (0.5, 1, 2):
        method = make("scope", alpha=alpha)
        for factor in (2.0**40, 2.0**-40):
            scaled = tokens.with_signals({"vision_attention@-1": attention * factor})
            assert torch.equal(method.select(scaled, 20).order, method.select(tokens, 20).order)


def test_scope_with_no_attention_at_all_goes_by_coverage():
    tokens = sample(40)
    none = tokens.with_signals({"vision_attention@-1": torch.zeros(40)})
    assert torch.equal(make("scope").select(none, 20).order, make("scope", alpha=0).select(tokens, 20).order)


# CDPruner


def test_cdpruner_is_dpp_over_relevance():
    tokens = sample(60)
    assert torch.equal(
        make("cdpruner").select(tokens, 20).order, make("dpp", importance="relevance").select(tokens, 20).order
    )


def test_cdpruner_with_constant_relevance_goes_by_similarity():
    tokens = sample(30).with_signals(question=torch.zeros(2, 12))
    for variant in ("paper", "code"):
        order = make("cdpruner", variant=variant).select(tokens, 8).order.tolist()
        assert order == oracles.dpp(torch.ones(30), tokens.similarity, 8)


# VisPruner and FlashVLM


def test_vispruner_by_importance_alone_is_topk_of_attention():
    tokens = sample(51)
    order = make("vispruner", important=1).select(tokens, 20).order
    assert torch.equal(order, ops.topk(tokens.signal("vision_attention@-1"), 20))


def test_vispruner_drops_repetitions_of_what_attention_ranks_high():
    tokens = sample(40)
    before = tokens.signal("pre_projector").clone()
    ranking = ops.topk(tokens.signal("vision_attention@-1"), 40)
    before[ranking[30:]] = before[ranking[20:30]]  # ten pairs
    order = make("vispruner").select(tokens.with_signals(pre_projector=before), 20).order.tolist()
    ranking = ranking.tolist()
    both = [a in order and b in order for a, b in zip(ranking[20:30], ranking[30:], strict=True)]
    assert order[:10] == ranking[:10]
    assert sum(both) <= 1


def test_flashvlm_ends_are_attention_and_relevance():
    tokens = sample(40)
    attention = make("flashvlm", eta=0, important=1).select(tokens, 40).order
    assert torch.equal(attention, ops.topk(tokens.signal("vision_attention@-1"), 40))
    aimed = tokens.with_signals(question=tokens.features[6:7])
    relevance = make("flashvlm", eta=1, important=1).select(aimed, 40).order
    assert torch.equal(relevance, ops.topk(tokens.similarity[6], 40))


def test_flashvlm_hears_the_longer_word():
    tokens = sample(40)
    words = tokens.features[[5, 33]] / tokens.features[[5, 33]].norm(dim=1, keepdim=True)
    method = make("flashvlm", eta=1)
    for lengths, first in (((1.0, 0.5), 5), ((0.5, 1.0), 33)):
        gated = tokens.with_signals(question=words * torch.tensor(lengths)[:, None])
        assert method.select(gated, 8).order[0] == first


@pytest.mark.parametrize("name", ["vispruner", "flashvlm"])
@pytest.mark.parametrize("n", [9, 10, 31])
def test_odd_and_even_rests_keep_exactly_k(name, n):
    tokens = sample(n)
    for important in (0, 0.3, 0.5, 1):
        for k in range(1, n + 1):
            assert len(set(make(name, important=important).select(tokens, k).order.tolist())) == k
