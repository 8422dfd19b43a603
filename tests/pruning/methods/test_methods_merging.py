"""The methods that merge, each against the loops of its paper: which tokens stay, what goes where, what comes out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pruning import METHODS, Grid, VisualTokens, make
from pruning.ops.quotas import share_out
from pruning.params import params
from tests.helpers.samples import sample, tiles
from tests.pruning.ops.test_merging import brute_bipartite, brute_outliers

# Every oracle: (method, tokens, k) -> (order, merge_into, rows), or the order alone for a method that does not merge.


def array(tokens, name):
    return tokens.signal(name).double().numpy()


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def best(scores, k, but=()):
    return sorted((i for i in range(len(scores)) if i not in but), key=lambda i: (-scores[i], i))[:k]


def pictures(tokens):
    """Token indices of each picture: a tile, an image or a frame."""
    return [
        range(grid.start + frame * grid.gh * grid.gw, grid.start + (frame + 1) * grid.gh * grid.gw)
        for grid in tokens.grids
        for frame in range(grid.t)
    ]


def shares(tokens, name):
    attention = array(tokens, name)
    for picture in pictures(tokens):
        attention[list(picture)] /= max(1.0, sum(attention[i] for i in picture))
    return attention


def visionzip(method, tokens, k):
    x, n = tokens.features.double().numpy(), tokens.n
    attention = array(tokens, f"vision_attention@{method.layer}")
    keys = [key.mean(0) for key in array(tokens, f"vision_keys@{method.layer}")]
    contextual = min(math.floor(k * method.contextual + 0.5), k - 1)
    dominant = best(attention, k - contextual)
    others = [i for i in range(n) if i not in dominant]
    targets = [others[i * (len(others) // contextual)] for i in range(contextual)]
    into = [i if i in dominant or i in targets else -1 for i in range(n)]
    members = {target: [] for target in targets}
    for token in others:
        if targets and token not in targets:
            into[token] = max(targets, key=lambda t: (cosine(keys[t], keys[token]), -t))
            members[into[token]].append(x[token])
    if method.merge == "mean":
        grown = [np.mean([x[t], *members[t]], axis=0) for t in targets]
    else:
        grown = [x[t] + (np.mean(members[t], axis=0) if members[t] else 0) for t in targets]
    return dominant + targets, into, [*x[dominant], *grown]


def _take_in(takers, pool, neighbours, keys, bonus):
    """Which tokens each taker takes, and of those who took a token the most similar one."""
    took, by = {}, {}
    for taker in takers:
        likeness = {j: cosine(keys[taker], keys[j]) + bonus[j] for j in pool if j != taker}
        took[taker] = sorted(likeness, key=lambda j: (-likeness[j], j))[:neighbours]
        for j in took[taker]:
            by.setdefault(j, []).append((likeness[j], taker))
    return took, {j: max(found, key=lambda pair: pair[0])[1] for j, found in by.items()}


def prumerge(method, tokens, k):
    x, n = tokens.features.double().numpy(), tokens.n
    attention = shares(tokens, "vision_attention@-1")
    keys = array(tokens, "vision_keys@-1").reshape(n, -1)
    count = max(1, k - 1)
    kept = best(attention, count)
    if method.form == "prumerge+":
        top = best(attention, math.ceil(count / 4))
        grid = {math.floor(i * n / (count - len(top))) for i in range(count - len(top))} - {*top}
        kept = top + sorted(grid, key=lambda i: (-attention[i], i))
        kept += best(attention, count - len(kept), kept)
    took, home = _take_in(kept, range(n), method.neighbours, keys, np.zeros(n))
    rows = [x[i] + sum(attention[j] * x[j] for j in took[i]) for i in kept]
    dropped = [i for i in range(n) if i not in kept]
    into = [i if i in kept else home.get(i, -1) for i in range(n)]
    if k > 1:
        (extra,) = best(attention, 1, kept)
        rows.append(sum(attention[j] * x[j] for j in dropped))
        into = [extra if i == extra or into[i] < 0 else into[i] for i in range(n)]
        kept = [*kept, extra]
    return kept, into, rows


def recoverable(method, tokens, k):
    x, n = tokens.features.double().numpy(), tokens.n
    attention = shares(tokens, "vision_attention@-1")
    keys = array(tokens, "vision_keys@-1").reshape(n, -1)
    word = np.mean([w / np.linalg.norm(w) for w in array(tokens, "question")], axis=0)
    relevance = np.array([cosine(row, word) for row in x]) * 768**-0.5
    visual = best(attention, sum(brute_outliers(attention.tolist(), method.lof_neighbours)))
    hidden = [relevance.min() if i in visual else relevance[i] for i in range(n)]
    text = (n - len(visual)) * sum(brute_outliers(hidden, method.lof_neighbours)) // n
    found = max(1, len(visual) + text)

    def keep(count):
        seen = best(attention, count - count * text // found)
        return seen + best(relevance, count * text // found, seen)

    left = [attention[i] for i in range(n) if i not in keep(k)]
    centres = k * sum(brute_outliers(left, 10)) // max(1, len(left))
    kept = keep(k - (centres + 1 if centres else 0))
    rows, into = list(x[kept]), [i if i in kept else -1 for i in range(n)]
    if centres:
        *chosen, extra = best(attention, centres + 1, kept)
        pool = [i for i in range(n) if i not in kept]
        took, home = _take_in(chosen, pool, method.neighbours, keys, 50 * relevance)
        rows += [x[i] + sum(attention[j] * x[j] for j in took[i]) for i in chosen]
        rows.append(sum(attention[j] * x[j] for j in pool if j not in chosen))
        for i in pool:
            into[i] = i if i in (*chosen, extra) else home.get(i, extra)
        kept = [*kept, *chosen, extra]
    return kept, into, rows


def aim(method, tokens, k):
    x = tokens.features.double().numpy()
    compared = x if method.matching == "features" else array(tokens, "vision_keys@-1").reshape(tokens.n, -1)
    order, into, rows, before = [], [-1] * tokens.n, [], 0
    for picture in pictures(tokens):
        share = math.floor(k * picture.stop / tokens.n) - before
        before += share
        if share:
            names, homes, merged = brute_bipartite(x[list(picture)], compared[list(picture)], share)
            order += [picture.start + name for name in names]
            into[picture.start : picture.stop] = [picture.start + home for home in homes]
            rows += list(merged)
    return order, into, rows


def vflowopt(method, tokens, k):
    x, n = tokens.features.double().numpy(), tokens.n
    flow, entropy = array(tokens, "vision_attention_map@-1"), array(tokens, "patch_entropy")
    importance = np.zeros(n)
    anchors = []
    for picture in pictures(tokens):
        received = {j: sum(flow[:, j]) for j in picture}
        above = [flow[j] for j in picture if received[j] > method.threshold]
        anchors.append(above or [np.mean([flow[j] for j in picture], axis=0)])
    for picture, own in zip(pictures(tokens), anchors, strict=True):
        for i in picture:
            total = sum(row[i] for rows in anchors for row in rows) / (len(own) if method.variant == "code" else 1)
            surprise = math.exp(entropy[i]) / sum(math.exp(entropy[j]) for j in picture)
            importance[i] = total + method.alpha * surprise
    cell = {}
    for grid in tokens.grids:
        for i in range(grid.count):
            frame, place = divmod(i, grid.gh * grid.gw)
            row, column = divmod(place, grid.gw)
            cell[grid.start + i] = (grid, frame, row // method.cell, column // method.cell)
    ranked = best(importance, n)
    for m in range(k, -1, -1):
        groups = {}
        for token in ranked[m:]:
            groups.setdefault(cell[token], []).append(token)
        if m + len(groups) <= k or m == 0:
            break
    heads = {members[0]: members for members in list(groups.values())[: k - m]}
    order = sorted([*ranked[:m], *heads], key=ranked.index)
    into = [i if i in ranked[:m] else -1 for i in range(n)]
    rows = {i: x[i] for i in ranked[:m]}
    for head, members in heads.items():
        weights = np.maximum(importance[members], 0)
        rows[head] = np.average(x[members], axis=0, weights=weights if weights.any() else None)
        for token in members:
            into[token] = head
    return order, into, [rows[i] for i in order]


def token_correlation(method, tokens, k):
    n = tokens.n
    keys = array(tokens, "vision_keys@-1").reshape(n, -1)
    deep, shallow = shares(tokens, "vision_attention@-1"), shares(tokens, "vision_attention@-3")
    detail = []
    for tile in pictures(tokens):
        partners = [sum(j != i and cosine(keys[i], keys[j]) > method.similar for j in tile) for i in tile]
        detail.append(sum(count < method.partners for count in partners))
    sizes = [len(tile) for tile in pictures(tokens)]
    detail = detail if any(detail) else sizes
    quota = share_out(torch.tensor([k * d / sum(detail) for d in detail]), torch.tensor(sizes), k).tolist()
    first, second = [], []
    for tile, keep in zip(pictures(tokens), quota, strict=True):
        outside = {i for i in range(n) if i not in tile}
        by_deep = best(deep, math.floor(keep * method.deep + 0.5), outside)
        first += by_deep
        second += best(shallow, keep - len(by_deep), outside | {*by_deep})
    return sorted(first, key=lambda i: (-deep[i], i)) + sorted(second, key=lambda i: (-shallow[i], i))


ORACLES = {
    "visionzip": visionzip,
    "prumerge": prumerge,
    "aim": aim,
    "recoverable": recoverable,
    "vflowopt": vflowopt,
    "token_correlation": token_correlation,
}
SETTINGS = {
    make(name, **{param.name: value})
    for name in ORACLES
    for param in params(METHODS[name])
    for value in (param.choices if param.kind == "choice" else (param.lo, param.default, param.hi))
} | {
    make("vflowopt", threshold=1.2, alpha=0.3, cell=3, variant="code"),
    make("vflowopt", threshold=1.2, cell=3.5),
    make("token_correlation", similar=0.4, partners=2),
}
PLACES = {
    "a wide picture": (Grid(1, 4, 9),),
    "two images and a video": (Grid(1, 3, 4), Grid(3, 2, 3, 12, image=1), Grid(1, 1, 7, 30, image=2)),
    "thumbnail and tiles": tiles(40),
}


@pytest.mark.parametrize("method", sorted(SETTINGS, key=repr), ids=repr)
@pytest.mark.parametrize("places", sorted(PLACES))
def test_keeps_and_merges_what_brute_force_does(method, places):
    grids = PLACES[places]
    n = grids[-1].stop
    for seed, k in enumerate((1, 2, 5, n // 3, n // 2, n - 1)):
        tokens = sample(n, grids=grids, needs=method.needs, seed=seed)
        selection, expected = method.select(tokens, k), ORACLES[method.name](method, tokens, k)
        if not method.merges:
            assert selection.order.tolist() == expected
            continue
        assert selection.order.tolist() == expected[0]
        assert selection.merge_into.tolist() == expected[1]
        np.testing.assert_allclose(selection.rows.numpy(), np.array(expected[2]), atol=1e-4)


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_half_precision_signals_are_read_in_float32(name):
    tokens = sample(30, needs=make(name).needs)
    half = {signal: value.to(torch.bfloat16) for signal, value in tokens.signals.items()}
    selection = make(name).select(tokens.with_signals(half), 7)
    assert selection.scores is None or selection.scores.dtype == torch.float32
    assert selection.rows is None or selection.rows.dtype == torch.float32


# On the grid: 0 1 2 / 3 4 5. Token 1 nearly repeats 0, and 4 nearly repeats 3; tokens lie at these angles.
ANGLES = torch.tensor([0.0, 5, 40, 90, 97, 170]).deg2rad()
UNIT = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
ATTENTION = torch.tensor([0.30, 0.05, 0.10, 0.25, 0.20, 0.10])
GOLDEN = VisualTokens(
    UNIT,
    (Grid(1, 2, 3),),
    {
        "vision_attention@-1": ATTENTION,
        "vision_attention@-3": torch.tensor([0.1, 0.4, 0.2, 0.1, 0.1, 0.1]),
        "vision_keys@-1": UNIT[:, None, :],
        "vision_attention_map@-1": ATTENTION.repeat(6, 1),
        "patch_entropy": torch.arange(6.0),
        "question": torch.tensor([[0.0, 2.0]]),
    },
)
MEAN_34 = (UNIT[3] + UNIT[4]) / 2


@pytest.mark.parametrize(
    ("method", "k", "order", "into", "rows"),
    [
        (  # dominant 0 3; of 1 2 4 5 every second is a target; 40° is nearer to 5°, 170° to 97°
            make("visionzip", contextual=0.5),
            4,
            [0, 3, 1, 4],
            [0, 1, 1, 3, 4, 4],
            [UNIT[0], UNIT[3], UNIT[1] + UNIT[2], UNIT[4] + UNIT[5]],
        ),
        (
            make("visionzip", contextual=0.5, merge="mean"),
            4,
            [0, 3, 1, 4],
            [0, 1, 1, 3, 4, 4],
            [UNIT[0], UNIT[3], (UNIT[1] + UNIT[2]) / 2, (UNIT[4] + UNIT[5]) / 2],
        ),
        (  # 0 takes 1, 3 takes 4; the sum of 1 2 4 5 stands where 4 was
            make("prumerge", neighbours=1),
            3,
            [0, 3, 4],
            [0, 0, 4, 3, 4, 4],
            [
                UNIT[0] + 0.05 * UNIT[1],
                UNIT[3] + 0.2 * UNIT[4],
                0.05 * UNIT[1] + 0.1 * UNIT[2] + 0.2 * UNIT[4] + 0.1 * UNIT[5],
            ],
        ),
        (  # one of four by attention, 0; places 0 2 4 of the grid, of which 0 is there already, so 3 fills up
            make("prumerge", neighbours=1, form="prumerge+"),
            5,
            [0, 4, 2, 3, 5],
            [0, 0, 2, 3, 4, 5],
            [
                UNIT[0] + 0.05 * UNIT[1],
                UNIT[4] + 0.25 * UNIT[3],
                UNIT[2] + 0.05 * UNIT[1],
                UNIT[3] + 0.2 * UNIT[4],
                0.05 * UNIT[1] + 0.1 * UNIT[5],
            ],
        ),
        (make("aim"), 3, [1, 3, 5], [1, 1, 1, 3, 3, 5], [UNIT[:3].mean(0), MEAN_34, UNIT[5]]),
        (  # the second round: 5 is nearer to the mean of 3 and 4 than the mean of 0 1 2 is, and counts as much as it
            make("aim"),
            2,
            [1, 3],
            [1, 1, 1, 3, 3, 3],
            [UNIT[:3].mean(0), (MEAN_34 + UNIT[5]) / 2],
        ),
        (  # no token is above t, so attention received decides; 0 3 4 are kept, 1 2 5 become one where 2 was
            make("vflowopt"),
            4,
            [0, 3, 4, 2],
            [0, 2, 2, 3, 4, 2],
            [UNIT[0], UNIT[3], UNIT[4], 0.2 * UNIT[1] + 0.4 * UNIT[2] + 0.4 * UNIT[5]],
        ),
    ],
    ids=lambda value: repr(value) if hasattr(value, "select") else "",
)
def test_golden_merges(method, k, order, into, rows):
    selection = method.select(GOLDEN, k)
    assert selection.order.tolist() == order
    assert selection.merge_into.tolist() == into
    torch.testing.assert_close(selection.rows, torch.stack(rows))


def test_golden_pick_order_of_the_correlation_guided_one():
    assert make("token_correlation").select(GOLDEN, 6).order.tolist() == [0, 3, 4, 1, 2, 5]
    assert make("token_correlation").select(GOLDEN, 3).order.tolist() == [0, 3, 1]


def test_correlation_guided_a_plain_tile_gives_to_one_full_of_detail():
    tokens = sample(
        40,
        grids=(Grid(1, 4, 5, role="tile"), Grid(1, 4, 5, 20, role="tile")),
        needs=METHODS["token_correlation"]().needs,
    )
    keys = tokens.signal("vision_keys@-1").clone()
    keys[20:36] = keys[20]  # all but four of the second tile's tokens are alike
    order = make("token_correlation").select(tokens.with_signals({"vision_keys@-1": keys}), 12).order
    assert int((order < 20).sum()) == 10


def test_recoverable_recovers_what_the_question_asks_for_and_merges_the_outliers_left():
    tokens = sample(80, grids=(Grid(1, 8, 10),), needs=make("recoverable").needs)
    attention = tokens.signal("vision_attention@-1").clone()
    attention[[3, 5]], attention[[40, 41]] = 9.0, 1.5
    rows = tokens.features.clone()
    rows[60:62] = tokens.signal("question").mean(dim=0)
    tokens = VisualTokens(rows, tokens.grids, {**tokens.signals, "vision_attention@-1": attention})
    order = make("recoverable").select(tokens, 12).order.tolist()
    assert {3, 5, 60, 61} <= {*order}
