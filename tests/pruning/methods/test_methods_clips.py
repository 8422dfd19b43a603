"""The methods for clips, each against the loops of its paper: which tokens stay, what goes where, what comes out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from pruning import METHODS, Grid, VisualTokens, make
from pruning.methods.dycoke import compared
from pruning.methods.fastvid import FastVID
from pruning.methods.flashvid import diverse
from pruning.methods.holitom import redundant
from pruning.ops.lattice import shares, spread
from pruning.ops.quotas import share_out
from pruning.params import params
from tests.helpers.samples import sample

# Every oracle: (method, x (T, P, D), attention (T·P,), words, grid, k) -> the order, or (order, merge_into, rows).


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def best(scores, k, but=()):
    return sorted((i for i in range(len(scores)) if i not in but), key=lambda i: (-scores[i], i))[:k]


def thin(grid, frame, k):
    return spread(Grid(1, grid.gh, grid.gw, frame * grid.gh * grid.gw), k) if k else []


def dpc(points, clusters, neighbours):
    """Centres and, for each point, the place of its centre among them."""
    n = len(points)
    d = [[np.linalg.norm(a - b) / math.sqrt(len(a)) for b in points] for a in points]
    rho = [math.exp(-np.mean([v * v for v in sorted(row)[:neighbours]])) for row in d]
    above = [[j for j in range(n) if (rho[j], -j) > (rho[i], -i)] for i in range(n)]
    delta = [min(d[i][j] for j in above[i]) if above[i] else max(map(max, d)) for i in range(n)]
    centres = best([r * e for r, e in zip(rho, delta, strict=True)], clusters)
    home = [centres.index(i) if i in centres else int(np.argmin([d[i][c] for c in centres])) for i in range(n)]
    return centres, home


def evs(method, x, attention, words, grid, k):
    t, p, _ = x.shape
    if k < p:
        return thin(grid, 0, k)
    return best([255.0] * p + [1 - cosine(x[f, i], x[f - 1, i]) for f in range(1, t) for i in range(p)], k)


def dycoke(method, x, attention, words, grid, k):
    t, p, _ = x.shape
    rival = {f: f - 1 for f in range(t) if f % 2} | {f: f - 2 for f in range(2, t, 4) if f < t - 2}
    whole = [f for f in range(t) if f not in rival]
    if k < len(whole) * p:
        return [i for f, own in zip(whole, shares(k, len(whole)), strict=True) for i in thin(grid, f, own)]
    order = [f * p + i for f in whole for i in range(p)]
    for f, own in zip(sorted(rival), shares(k - len(order), len(rival)) if rival else [], strict=True):
        order += [f * p + i for i in best([1 - cosine(x[f, i], x[rival[f], i]) for i in range(p)], own)]
    return order


def quota(method, x, attention, words, grid, k):
    t, p, _ = x.shape
    frames = [np.mean([row / np.linalg.norm(row) for row in frame], axis=0) for frame in x]
    word = np.mean([w / np.linalg.norm(w) for w in words], axis=0)
    relevance = [(1 + cosine(frame, word)) / 2 for frame in frames]
    weight = [(100 * r) ** 2 for r in relevance]
    own = share_out(torch.tensor([k * w / sum(weight) for w in weight]), torch.full((t,), p), k).tolist()
    return [i for f in range(t) for i in thin(grid, f, own[f])]


def uniform_frames(method, x, attention, words, grid, k):
    t, p, _ = x.shape
    whole = math.ceil(k / p)
    frames = [int((2 * i + 1) * t / (2 * whole)) for i in range(whole)]
    return [i for n, f in enumerate(frames) for i in thin(grid, f, min(p, k - n * p))]


def runs(x, least, at_least):
    """[start, stop) of like frames."""
    means = [frame.mean(0) for frame in x]
    alike = [cosine(a, b) for a, b in itertools.pairwise(means)]
    count = max(sum(a < least for a in alike), min(at_least, len(x)) - 1)
    cuts = sorted(sorted(range(len(alike)), key=lambda i: (alike[i], i))[:count])
    return list(itertools.pairwise([0, *(cut + 1 for cut in cuts), len(x)]))


def flashvid(method, x, attention, words, grid, k):
    t, p, width = x.shape
    flat = x.reshape(-1, width)
    chosen = min(k, max(1, math.floor(method.share * k + 0.5)))
    kept = []
    for f, own in enumerate(shares(chosen, t)):
        ids = [f * p + i for i in range(p)]
        cost = {(s, j): max(0.0, 1 - cosine(flat[s], flat[j])) * attention[j] for s in ids for j in ids}
        mine = []
        while len(mine) < own:
            rivals = {j: min(cost[s, j] for s in (mine or [s for s in ids if s != j])) for j in ids if j not in mine}
            mine.append(max(rivals, key=lambda j: (rivals[j], -j)))
        kept += mine
    into, parent = [i if i in kept else -1 for i in range(t * p)], {}
    links = []
    for start, stop in runs(x, 0.9, 4):
        for f in range(start + 1, stop):
            before = [i for i in range((f - 1) * p, f * p) if i not in kept]
            for i in range(f * p, (f + 1) * p):
                if i not in kept and before:
                    near = max(before, key=lambda j: (cosine(flat[i], flat[j]), -j))
                    links.append((-cosine(flat[i], flat[near]), i, near))
    if chosen == k:
        return kept, into, flat[kept]
    for alike, i, near in sorted(links)[: t * p - k]:
        if -alike > method.likeness:
            parent[i] = near

    def root(i):
        return root(parent[i]) if i in parent else i

    free = [i for i in range(t * p) if i not in kept]
    roots = [i for i in free if i not in parent]
    trees = {r: [i for i in free if root(i) == r] for r in roots}
    children = {r: sum(j == r for j in parent.values()) for r in roots}
    over = {r: len(trees[r]) if method.variant == "paper" else 1 + children[r] for r in roots}
    value = {r: sum(flat[i] for i in trees[r]) / over[r] for r in roots}
    in_frame = [[r for r in roots if r // p == f] for f in range(t)]
    sizes = torch.tensor([len(own) for own in in_frame])
    order, rows = list(kept), list(flat[kept])
    for own, count in zip(
        in_frame, share_out(sizes * (k - chosen) / sizes.sum(), sizes, k - chosen).tolist(), strict=True
    ):
        if not count:
            continue
        centres, home = dpc([value[r] for r in own], count, min(count, 7))
        order += [own[c] for c in centres]
        rows += [np.mean([value[r] for r, h in zip(own, home, strict=True) if h == g], axis=0) for g in range(count)]
        for r, h in zip(own, home, strict=True):
            for i in trees[r]:
                into[i] = own[centres[h]]
    return order, into, rows


def weighed(centre, members, beta):
    return centre if not members else beta * centre + (1 - beta) * np.mean(members, axis=0)


def fastvid(method, x, attention, words, grid, k):
    t, p, width = x.shape
    flat, of_frame = x.reshape(-1, width), shares(k, t)
    order, into, rows = [], [-1] * (t * p), []
    for start, stop in runs(x, method.segment_cosine, 8):
        total = sum(of_frame[start:stop])
        if not total:
            continue
        anchors = [f for f in range(start, stop) if (stop - 1 - f) % 4 == 0]
        context = min(total, max(math.floor(method.context * total), 1))
        while context > sum(p - own for f, own in zip(range(start, stop), shares(total - context, stop - start),
                                                       strict=True) if f in anchors):  # fmt: skip
            context -= 1
        salient = []
        for f, own in zip(range(start, stop), shares(total - context, stop - start), strict=True):
            salient += [f * p + i for i in best(attention[f * p : (f + 1) * p], own)]
        room = torch.tensor([p - sum(i // p == f for i in salient) for f in anchors])
        groups = []
        even = share_out(torch.full((len(anchors),), context / len(anchors)), room, context).tolist()
        for f, own in zip(anchors, even, strict=True):
            others = [i for i in range(f * p, (f + 1) * p) if i not in salient]
            if own:
                groups.append([others[c] for c in dpc(flat[others], own, 4)[0]])
        centres = [c for group in groups for c in group]
        free = [i for i in range(start * p, stop * p) if i not in salient and i not in centres]
        order += salient + centres
        rows += list(flat[salient])
        for i in salient + centres:
            into[i] = i
        for group in groups:
            joins = {i: max(group, key=lambda c, i=i: cosine(flat[i], flat[c])) for i in free}
            for c in group:
                members = [flat[i] for i in free if joins[i] == c]
                rows.append(weighed(flat[c], members, max(0.6, 1 / (len(members) + 1))))
        for i in free:
            into[i] = max(centres, key=lambda c, i=i: cosine(flat[i], flat[c])) if centres else -1
    return order, into, rows


def sets_of(x, windows, alike, least, k):
    """The sets that windows consist of: (tokens, values, whether they move), and what stands for each token."""
    t, p, _ = x.shape
    found, most = [], t * p - k
    for w, (start, stop) in enumerate(windows):
        if stop - start > 1:
            found += [(-alike(start, stop, i), w, i) for i in range(p) if alike(start, stop, i) > least]
    still = set()
    for _, w, i in sorted(found):
        saved = windows[w][1] - windows[w][0] - 1
        if saved <= most:
            still.add((w, i))
            most -= saved
    sets, stands = [], list(range(t * p))
    for w, (start, stop) in enumerate(windows):
        fixed = [i for i in range(p) if (w, i) in still]
        if fixed:
            sets.append(([start * p + i for i in fixed], [x[start:stop, i].mean(0) for i in fixed], False))
        for f in range(start, stop):
            for i in fixed:
                stands[f * p + i] = start * p + i
            if len(fixed) < p:
                loose = [i for i in range(p) if i not in fixed]
                sets.append(([f * p + i for i in loose], [x[f, i] for i in loose], True))
    return sets, stands


def joined(sets, stands, k, merge):
    sizes = torch.tensor([len(tokens) for tokens, _, _ in sets])
    order, rows, into = [], [], [-1] * len(stands)
    for (tokens, values, moves), own in zip(sets, share_out(sizes * k / sizes.sum(), sizes, k).tolist(), strict=True):
        if own:
            stay, home, made = merge(tokens, values, moves, own)
            order += [tokens[i] for i in stay]
            rows += made
            for token, h in zip(tokens, home, strict=True):
                into[token] = -1 if h is None else tokens[stay[h]]
    return order, [into[i] for i in stands], rows


def prunevid(method, x, attention, words, grid, k):
    t = len(x)
    _, home = dpc([frame.mean(0) for frame in x], max(1, int(t * method.frame_clusters)), 7)
    cuts = [f for f in range(1, t) if home[f] != home[f - 1]]

    def alike(start, stop, i):
        return np.mean([cosine(x[a, i], x[b, i]) for a, b in itertools.combinations(range(start, stop), 2)])

    def merge(tokens, values, moves, own):
        centres, home = dpc(values, own, 7)
        means = [np.mean([v for v, h in zip(values, home, strict=True) if h == g], axis=0) for g in range(own)]
        return centres, home, means

    return joined(*sets_of(x, list(itertools.pairwise([0, *cuts, t])), alike, method.likeness, k), k, merge)


def holitom(method, x, attention, words, grid, k):
    t, p, _ = x.shape
    f = [[cosine(x[i, j], x[i + 1, j]) for j in range(p)] for i in range(t - 1)]

    def gain(start, stop):
        return sum(all(f[i][j] > method.likeness for i in range(start, stop - 1)) for j in range(p)) * (
            stop - start - 1
        )

    every = [
        list(itertools.pairwise([0, *cuts, t])) for n in range(t) for cuts in itertools.combinations(range(1, t), n)
    ]
    most = max(sum(gain(*window) for window in windows) for windows in every)
    equal = [windows for windows in every if sum(gain(*window) for window in windows) == most]
    windows = min(equal, key=lambda windows: [stop - start for start, stop in reversed(windows)])

    def merge(tokens, values, moves, own):
        if moves:
            stay = best([attention[i] for i in tokens], own)
            return stay, [stay.index(i) if i in stay else None for i in range(len(tokens))], [values[i] for i in stay]
        centres, home = dpc(values, own, 7)
        others = [[values[i] for i, h in enumerate(home) if h == g and i not in centres] for g in range(own)]
        return centres, home, [weighed(values[c], others[g], 0.6) for g, c in enumerate(centres)]

    def alike(start, stop, i):
        return min(f[at][i] for at in range(start, stop - 1))

    return joined(*sets_of(x, windows, alike, method.likeness, k), k, merge)


ORACLES = {
    "evs": evs,
    "dycoke": dycoke,
    "quota": quota,
    "flashvid": flashvid,
    "fastvid": fastvid,
    "prunevid": prunevid,
    "holitom": holitom,
    "uniform_frames": uniform_frames,
}
SETTINGS = {
    make(name, **{param.name: value})
    for name in ORACLES
    for param in params(METHODS[name])
    for value in (param.choices if param.kind == "choice" else (param.lo, param.default, param.hi))
} | {make(name) for name in ORACLES}
SETTINGS |= {make("flashvid", variant="code", likeness=0.5)}


def clip(grid: Grid, seed: int, needs) -> VisualTokens:
    """Places that stand still, drift or jump from frame to frame, and another scene in the second half."""
    random, places = np.random.default_rng(seed), grid.gh * grid.gw
    rows = np.empty((grid.t, places, 12))
    step = random.choice([0.05, 0.4, 1.5], (places, 1))
    for frame in range(grid.t):
        new = frame == 0 or (frame == (grid.t + 1) // 2 and seed % 2)
        rows[frame] = random.normal(size=(places, 12)) + 0.5 if new else rows[frame - 1]
        rows[frame] += step * random.normal(size=(places, 12)) * (frame > 0)
    return sample(grid.count, grids=(grid,), needs=needs, seed=seed, rows=torch.tensor(rows).flatten(0, 1).float())


@pytest.mark.parametrize("method", sorted(SETTINGS, key=repr), ids=repr)
def test_keeps_and_merges_what_brute_force_does(method):
    for seed, grid in enumerate((Grid(7, 2, 3), Grid(5, 2, 4), Grid(1, 3, 4), Grid(9, 1, 3))):
        tokens = clip(grid, seed, method.needs)
        x = tokens.features.double().numpy().reshape(grid.t, grid.gh * grid.gw, -1)
        given = {name: value.double().numpy() for name, value in tokens.signals.items()}
        attention, words = given.get("vision_attention@-1"), given.get("question")
        for k in (1, 3, grid.count // 4, grid.count // 2, grid.count - 2, grid.count):
            selection = method.select(tokens, k)
            expected = ORACLES[method.name](method, x, attention, words, grid, k)
            if not method.merges:
                assert selection.order.tolist() == expected
                continue
            assert selection.order.tolist() == expected[0]
            assert selection.merge_into.tolist() == expected[1]
            np.testing.assert_allclose(selection.rows.numpy(), np.array(expected[2]), atol=1e-4)


def unit(degrees):
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_evs_keeps_the_first_frame_and_what_changed_most():
    second = torch.tensor([0.9, 0.2, 0.5, 0.9]).acos()
    third = second + torch.tensor([0.1, 0.8, 0.95, 0.6]).acos()
    angles = torch.cat([torch.zeros(4), second, third]).rad2deg().tolist()
    tokens = VisualTokens(unit(angles), (Grid(3, 2, 2),))
    assert make("evs").select(tokens, 6).indices.tolist() == [0, 1, 2, 3, 5, 8]
    still = VisualTokens(unit([10.0, 20, 30, 40]).repeat(3, 1), (Grid(3, 2, 2),))
    assert make("evs").select(still, 4).indices.tolist() == [0, 1, 2, 3]


def test_dycoke_compares_three_of_four_frames_and_keeps_as_many_of_each():
    assert list(compared(8)) == [1, 2, 3, 5, 7]
    assert compared(1) == {}
    tokens = sample(8 * 196, grids=(Grid(8, 14, 14),), needs=())
    kept = make("dycoke").select(tokens, 3 * 196 + 5 * 58)  # the paper's k = 0.7
    assert torch.bincount(kept.indices // 196).tolist() == [196, 58, 58, 58, 196, 58, 196, 58]


def test_flashvid_picks_by_attention_and_distance():
    vectors, attention = unit([0.0, 10, 90, 180]), torch.tensor([0.1, 0.4, 0.3, 0.2])
    assert diverse(vectors, attention, 2).tolist() == [2, 1]


@pytest.mark.parametrize(("variant", "mean"), [("paper", 3.0), ("code", 4.5)])
def test_flashvid_s_trees_are_divided_by_their_tokens_or_as_released(variant, mean):
    """A chain of three tokens with values 1, 2, 6, root first; a second token in each frame is picked by ADTS."""
    values = torch.tensor([1.0, 2.0, 6.0])
    chain = torch.stack([values, torch.zeros(3)], dim=1)
    picked = torch.stack([torch.zeros(3), torch.ones(3)], dim=1) + torch.tensor([[0, 0], [0.5, 0], [1, 0]])
    rows = torch.stack([picked, chain], dim=1).flatten(0, 1)
    tokens = VisualTokens(rows, (Grid(3, 1, 2),), {"vision_attention@-1": torch.tensor([9.0, 1] * 3)})
    method = make("flashvid", share=0.75, variant=variant)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pruning.methods.flashvid.segments", lambda *_: [(0, 3)])
        kept = method.select(tokens, 4)
    assert kept.indices.tolist() == [0, 1, 2, 4]
    assert kept.merge_into.tolist() == [0, 1, 2, 1, 4, 1]
    assert kept.merged[1].tolist() == [mean, 0.0]


def test_fastvid_shares_a_segment_out_over_frames_and_anchors():
    features, attention = sample(900, needs=()).features, torch.rand(900)
    salient, centres = FastVID()._chosen(features, attention, 100, 0, 9, 90)
    assert [len(own) for own in salient] == [6] * 9
    assert [len(own) for own in centres] == [12] * 3
    assert [int(own[0]) // 100 for own in centres] == [0, 4, 8]


def test_holitom_cuts_where_most_is_saved():
    f = torch.tensor([[0.9, 0.9, 0.1], [0.9, 0.2, 0.1], [0.9, 0.9, 0.9]])
    assert redundant(f > 0.8) == [(0, 2), (2, 4)]


def test_quota_squares_the_relevance_of_frames():
    frames = unit([180 - 2 * math.degrees(math.asin(p**0.5)) for p in (0.2, 0.4, 0.4)])  # (1 + cos) / 2 = p
    tokens = VisualTokens(frames.repeat_interleave(90, dim=0), (Grid(3, 9, 10),), {"question": unit([0.0])})
    kept = make("quota").select(tokens, 90)
    assert torch.bincount(kept.indices // 90).tolist() == [10, 40, 40]


def test_clips_and_pictures_of_one_sample_have_a_budget_each():
    grids = (Grid(1, 3, 4), Grid(4, 2, 3, 12, image=1))
    tokens = sample(36, grids=grids, needs=make("flashvid").needs)
    for name in ORACLES:
        method = make(name)
        kept = method.select(sample(36, grids=grids, needs=method.needs), 12)
        assert int((kept.indices < 12).sum()) == 4
    assert tokens.n == 36


def test_no_method_for_clips_compares_each_token_with_each_other(monkeypatch):
    def refused(*_):
        raise RuntimeError("an (N, N) matrix")

    monkeypatch.setattr(VisualTokens, "_compared", refused)
    for name in ORACLES:
        assert METHODS[name].clips
        method = make(name)
        method.select(clip(Grid(8, 4, 4), 1, method.needs), 32)
