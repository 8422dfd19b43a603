"""The methods that select by what the vision tower attends to."""

from __future__ import annotations

import pytest
import torch

from pruning import METHODS, Grid, VisualTokens, make
from pruning.methods.agile_pruner import _effective_rank
from pruning.params import params
from pruning.signals import FUNCTIONS
from tests.helpers import oracles_attention as oracles
from tests.helpers.samples import features, sample, tiles

ORACLES = {
    "feature_norm": oracles.feature_norm,
    "language_overrules": oracles.language_overrules,
    "vtc_cls": oracles.vtc_cls,
    "flowcut": oracles.flowcut,
    "flowcut_tower": oracles.flowcut_tower,
    "hiprune": oracles.hiprune,
    "todre": oracles.todre,
    "agile_pruner": oracles.agile_pruner,
    "fopru": oracles.fopru,
    "holov": oracles.holov,
    "globalcom2": oracles.globalcom2,
    "zero_tprune": oracles.zero_tprune,
}
SETTINGS = {
    make(name, **{param.name: value})
    for name in ORACLES
    for param in params(METHODS[name])
    for value in (param.choices if param.kind == "choice" else (param.lo, param.default, param.hi))
} | {make("feature_norm"), make("todre")}
SETTINGS |= {make("hiprune", alpha=0.7, variant=variant) for variant in ("paper", "code")}
SETTINGS |= {make("flowcut", layers=layers, variant="paper") for layers in (1, 5)}
PLACES = {
    "rows, columns and frames": (Grid(1, 4, 5), Grid(2, 2, 3, 20, image=1)),
    "one token more than a stretch": (Grid(1, 1, 31),),
    "thumbnail and tiles": tiles(45),
    "tiles of two pictures, and a third whole": (
        *tiles(30),
        Grid(1, 3, 3, 30, image=1),
        Grid(1, 2, 5, 39, image=2, role="tile", box=(0.0, -0.25, 0.5, 1.25)),
        Grid(1, 2, 3, 49, image=2, role="tile", box=(0.5, -0.25, 1.0, 1.25)),
        Grid(1, 4, 4, 55, image=2, role="thumbnail"),
    ),
}


@pytest.mark.parametrize("method", sorted(SETTINGS, key=repr), ids=repr)
@pytest.mark.parametrize("places", sorted(PLACES))
def test_picks_what_brute_force_picks(method, places):
    grids = PLACES[places]
    n = grids[-1].stop
    tokens = sample(n, grids=grids, needs=method.needs, seed=n)
    for k in (1, n // 4, n // 2, n - 1):
        assert method.select(tokens, k).order.tolist() == ORACLES[method.name](method, tokens, k)


# Token 1 nearly repeats 0, and 4 nearly repeats 3. On the grid: 0 1 2 / 3 4 5. Every query attends alike.
ANGLES = torch.tensor([0.0, 2, 40, 90, 93, 170]).deg2rad()
UNIT = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
LAST, BEFORE, MIDDLE = (
    torch.tensor([0.30, 0.12, 0.20, 0.05, 0.25, 0.08]),
    torch.tensor([0.26, 0.30, 0.10, 0.20, 0.08, 0.06]),
    torch.tensor([0.05, 0.08, 0.31, 0.19, 0.26, 0.11]),
)
GOLDEN = VisualTokens(
    UNIT * torch.tensor([3.0, 1, 2, 6, 5, 4])[:, None],
    (Grid(1, 2, 3),),
    {
        **{f"vision_attention@{-1 - i}": values for i, values in enumerate((LAST, BEFORE, MIDDLE))},
        **{f"vision_attention_map@{-1 - i}": values.repeat(6, 1) for i, values in enumerate((LAST, BEFORE, MIDDLE))},
        "vision_keys@-1": UNIT[:, None, :],
        "vision_values@-1": torch.tensor([1.0, 2, 3, -3, -2, -1]).view(6, 1, 1),  # their mean is 0
    },
)


@pytest.mark.parametrize(
    ("method", "order"),
    [
        (make("feature_norm"), [3, 4, 5, 0, 2, 1]),
        (make("language_overrules"), [0, 4, 2, 1, 5, 3]),
        (make("language_overrules", layer=-2), [1, 0, 3, 2, 4, 5]),
        (make("vtc_cls"), [2, 3, 1, 4, 0, 5]),  # .31 .38 .41 .39 .34 .17
        (make("vtc_cls", layers=1), [1, 0, 3, 2, 4, 5]),
        # (a + 1/6) times the length: .47 .57 1.1 .65 .83 .25; 1/6 is the meaning, the same for all; without it
        # .30 .24 .60 .15 .50 .08
        (make("flowcut", layers=1, variant="paper"), [2, 4, 3, 1, 0, 5]),
        (make("flowcut", layers=1), [2, 4, 0, 1, 3, 5]),
        # One anchor, 2 in the upper right corner; in the released form its right neighbour is 3, and above lies 0.
        (make("hiprune", alpha=1), [2, 5, 1, 0, 4, 3]),
        (make("hiprune", alpha=1, variant="code"), [2, 3, 5, 1, 0, 4]),
        (make("todre"), [0, 5, 1, 4, 3, 2]),
        # By attention 1 0 3 2 4 5, but 1 strikes out 0 and 3 strikes out 4.
        (make("agile_pruner", erank_avg=5), [1, 3, 2, 5, 0, 4]),
        (make("agile_pruner", tau_max=0), [1, 0, 3, 2, 4, 5]),
        (make("fopru"), [1, 0, 3, 2, 4, 5]),
        (make("fopru", strategy="row"), [1, 0, 2, 3, 4, 5]),
        (make("fopru", strategy="row"), [1, 0, 2, 3]),
        # Three stretches of two; w = .42 .25 .33, so 1.26 .75 .99 tokens: one each for the first and last missing unit.
        (make("holov"), [0, 4, 1]),
        (make("globalcom2"), [0, 4, 2, 1, 5, 3]),
        # 1 leaves before the less important 5 and 3, as it repeats 0.
        (make("zero_tprune"), [0, 4, 2, 5]),
        (make("zero_tprune", similar=0), [0, 4, 2, 1]),
    ],
)
def test_golden_pick_orders(method, order):
    assert method.select(GOLDEN, len(order)).order.tolist() == order


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_half_precision_signals_are_read_in_float32(name):
    tokens = sample(30, needs=make(name).needs)
    half = {
        signal: value if signal in FUNCTIONS else value.to(torch.bfloat16) for signal, value in tokens.signals.items()
    }
    selection = make(name).select(tokens.with_signals(half), 7)
    assert selection.k == 7
    assert selection.scores is None or selection.scores.dtype == torch.float32


def test_flowcut_what_left_does_not_come_back():
    """Of three layers, the first cuts, and its lowest token is the highest of the others."""
    late, values = torch.tensor([1.0, 1, 1, 1, 9]), torch.ones(5, 1, 2)
    early = torch.tensor([50.0, 2, 2, 2, 0])
    signals = {f"vision_attention@{layer}": late for layer in (-1, -2)} | {"vision_attention@-3": early}
    signals |= {f"vision_values@{layer}": values for layer in (-1, -2, -3)}
    tokens = VisualTokens(features(5), (Grid(1, 1, 5),), signals)
    assert 4 not in make("flowcut", layers=3).select(tokens, 2).order.tolist()
    assert make("flowcut", layers=2).select(tokens, 2).order.tolist()[0] == 4


def test_hiprune_cuts_its_neighbours_to_the_budget():
    tokens = sample(30, grids=(Grid(1, 5, 6),), needs=make("hiprune").needs)
    middle = tokens.signal("vision_attention_map@-3").sum(dim=0)
    order = make("hiprune", alpha=1).select(tokens, 3).order.tolist()
    assert order[0] == middle.argmax()
    around = {order[0] - 6, order[0] + 6, order[0] - 1, order[0] + 1}
    assert set(order[1:]) <= around
    assert middle[order[1]] >= middle[order[2]]


def test_todre_starts_in_the_thumbnail():
    tokens = sample(50, grids=tiles(50), needs=make("todre").needs)
    attention = tokens.signal("vision_attention@-1").clone()
    attention[30] = 2
    attention[4] = 1.5
    assert make("todre").select(tokens.with_signals({"vision_attention@-1": attention}), 1).order.tolist() == [4]


@pytest.mark.parametrize(("n", "width"), [(40, 6), (40, 20), (40, 21), (40, 39), (40, 90), (3, 1), (1, 5), (2, 2)])
@pytest.mark.parametrize("scale", [1, 1e15, 1e-15])
def test_effective_rank_is_that_of_the_singular_values(n, width, scale):
    rows = features(n, width) * torch.linspace(0.1, 2, width) + 3
    assert _effective_rank(VisualTokens(rows * scale, (Grid(1, 1, n),))).item() == pytest.approx(
        oracles.erank(rows), rel=0.02
    )


def test_effective_rank_counts_equal_directions():
    directions = torch.cat([torch.eye(8), -torch.eye(8)])
    assert _effective_rank(VisualTokens(directions, (Grid(1, 4, 4),))).item() == pytest.approx(8, rel=1e-4)


def test_agile_pruner_gives_complex_pictures_more_room():
    """Twenty pairs of near repetitions; four long features leave every angle as it is but make the picture simple."""
    pairs = torch.eye(40)[:20].repeat_interleave(2, dim=0) + 0.02 * features(40, 40)
    long = torch.ones(40, 1)
    long[:4] = 100
    signals = {"vision_attention@-2": torch.linspace(1, 0, 40)}
    simple, complex_ = (
        make("agile_pruner").select(VisualTokens(rows, (Grid(1, 5, 8),), signals), 24).order.tolist()
        for rows in (pairs * long, pairs)
    )
    assert simple == list(range(24))
    assert len({i // 2 for i in complex_}) > 16


@pytest.mark.parametrize("erank_avg", [5, 20, 90])
def test_agile_pruner_among_near_repetitions_picks_what_brute_force_picks(erank_avg):
    method = make("agile_pruner", erank_avg=erank_avg, tau_max=0.5)
    near = features(6).repeat_interleave(10, dim=0) + torch.linspace(0.02, 0.4, 60)[:, None] * features(60, seed=1)
    tokens = sample(60, needs=method.needs, rows=near)
    order = method.select(tokens, 60).order.tolist()
    assert order == oracles.agile_pruner(method, tokens, 60)
    assert order != oracles.best(tokens.signal("vision_attention@-2"), 60)


def test_agile_pruner_takes_duplicates_last():
    rows = features(5).repeat(4, 1)
    tokens = VisualTokens(rows, (Grid(1, 4, 5),), {"vision_attention@-2": torch.linspace(1, 0, 20)})
    assert make("agile_pruner").select(tokens, 20).order.tolist() == list(range(20))
    backwards = tokens.with_signals({"vision_attention@-2": torch.linspace(0, 1, 20)[[0, 5, 10, 15] * 5]})
    assert {i % 5 for i in make("agile_pruner").select(backwards, 5).order.tolist()} == set(range(5))


def test_fopru_reads_the_attention_given_where_that_differs_more():
    attention = torch.diag(torch.tensor([0.1, 0.5, 0.3, 0.9])) @ torch.full((4, 4), 0.25)
    tokens = VisualTokens(features(4), (Grid(1, 2, 2),), {"vision_attention_map@-2": attention})
    assert make("fopru").select(tokens, 4).order.tolist() == [3, 1, 2, 0]


def test_fopru_keeps_whole_rows():
    tokens = sample(48, grids=(Grid(1, 4, 6), Grid(2, 2, 6, 24, image=1)), needs=make("fopru").needs)
    for rows in (1, 3, 5):
        kept = make("fopru", strategy="row").select(tokens, 6 * rows).indices
        assert torch.equal(kept.view(rows, 6), kept[::6, None] + torch.arange(6))


def test_holov_leaves_no_stretch_empty_where_all_are_alike():
    tokens = VisualTokens(torch.ones(64, 3), (Grid(1, 8, 8),), {"vision_attention@-1": torch.ones(64)})
    kept = make("holov").select(tokens, 16).indices
    assert torch.bincount(kept * 7 // 64, minlength=7).min() >= 2


def test_holov_fills_stretches_at_most_and_hands_the_rest_on():
    attention = torch.full((60,), 0.01)
    attention[:9] = 100
    tokens = VisualTokens(features(60), (Grid(1, 6, 10),), {"vision_attention@-1": attention})
    kept = make("holov").select(tokens, 15).indices  # 7 stretches, the first four of 9 tokens
    assert kept[:9].tolist() == list(range(9))
    assert len(kept) == 15


def test_holov_code_weighs_diversity_by_a_tenth():
    """Four stretches of two tokens and 23 of one, which has no diversity: the pair's .5 counts as 1.09 times that."""
    attention = torch.full((31,), 0.1)
    attention[:2], attention[20] = 0.5, 0.6
    for other, kept in ((0.53, [0, 20]), (0.56, [20, 25])):
        attention[25] = other
        tokens = VisualTokens(features(31), (Grid(1, 1, 31),), {"vision_attention@-1": attention})
        assert make("holov", variant="code").select(tokens, 2).indices.tolist() == kept


def test_globalcom2_keeps_most_where_the_thumbnail_looks():
    tokens = sample(180, grids=tiles(180), needs=make("globalcom2").needs)
    attention = torch.ones(180)
    thumbnail = attention[:36].view(6, 6)
    thumbnail[3:, :3] = 50  # lower left: the third tile
    tokens = tokens.with_signals({"vision_attention@-1": attention})
    kept = make("globalcom2", tau=1).select(tokens, 90).indices
    counts = torch.bincount(kept // 36, minlength=5).tolist()
    assert counts[3] > 1 + max(counts[:3] + counts[4:])
    assert abs(counts[1] - counts[4]) <= 1
    alike = make("globalcom2").select(tokens.with_signals({"vision_attention@-1": torch.ones(180)}), 90).indices
    assert torch.bincount(alike // 36).tolist() == [18] * 5


def test_globalcom2_fills_up_in_turn_where_a_tile_is_full():
    tokens = sample(720, grids=tiles(720), needs=make("globalcom2").needs)
    attention = tokens.signal("vision_attention@-1").clone()
    attention[:144].view(12, 12)[6:, :6] += 1000
    tokens = tokens.with_signals({"vision_attention@-1": attention})
    method = make("globalcom2", tau=1)
    order = method.select(tokens, 648).order.tolist()  # r of the third tile would be 1.1
    assert set(range(144 * 3, 144 * 4)) <= set(order)
    assert order == oracles.globalcom2(method, tokens, 648)


def test_globalcom2_sees_a_tile_through_the_thumbnail():
    tokens = sample(180, grids=tiles(180), needs=make("globalcom2").needs)
    attention = torch.ones(180)
    attention[:36].view(6, 6)[0, 0] = 50  # the upper left corner, of the first tile too
    for knobs, corner in (({"alpha": 1}, True), ({"alpha": 0}, False)):
        scores = make("globalcom2", **knobs).select(tokens.with_signals({"vision_attention@-1": attention}), 9).scores
        assert bool(scores[36] > scores[37:72].min()) is corner


def test_zero_tprune_spreads_importance_along_the_graph():
    """0 attends to 1 alone and 1 to 2; the others attend to 0. After one round 0 leads, after two 1, after three 2."""
    attention = torch.zeros(6, 6)
    attention[[0, 1, 3, 4, 5], [1, 2, 0, 0, 0]] = torch.tensor([1, 1, 1, 1, 1.0])
    attention[2, 3:] = 1 / 3
    tokens = VisualTokens(
        features(6), (Grid(1, 2, 3),), {"vision_attention_map@-1": attention, "vision_keys@-1": features(6)[:, None]}
    )
    for rounds, first in ((1, 0), (2, 1), (3, 2)):
        assert make("zero_tprune", iterations=rounds, similar=0).select(tokens, 1).order.tolist() == [first]
