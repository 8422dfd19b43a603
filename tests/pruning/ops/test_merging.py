"""Merging and outliers against loops that spell the definitions out."""

import numpy as np
import pytest
import torch

from pruning.ops import merging
from pruning.ops.outliers import local_outliers
from tests.helpers.samples import features, scores


def test_attention_received_becomes_a_mean_query_s_and_attention_from_cls_stays():
    pictures = torch.tensor([0, 0, 0, 1, 1])
    received = torch.tensor([0.5, 1.5, 1.0, 2.0, 0.0])  # sums to the number of queries, 3 and 2
    torch.testing.assert_close(merging.attention_shares(received, pictures) * torch.tensor([3, 3, 3, 2, 2]), received)
    from_cls = torch.tensor([0.2, 0.3, 0.4, 0.05, 0.1])
    assert torch.equal(merging.attention_shares(from_cls, pictures), from_cls)


@pytest.mark.parametrize("weighted", [False, True])
def test_group_mean(weighted):
    rows, group = features(40), torch.randint(-1, 5, (40,), generator=torch.Generator().manual_seed(0))
    weights = scores(40) if weighted else torch.ones(40)
    found = merging.group_mean(rows, group, 6, weights if weighted else None)
    for g in range(5):
        inside = (group == g).numpy()
        torch.testing.assert_close(
            found[g].double(), torch.from_numpy(np.average(rows.numpy()[inside], 0, weights.numpy()[inside])).double()
        )
    assert not found[5].any(), "a group without members"


def test_group_mean_is_exact_for_one_member_whatever_its_weight_and_plain_without_weight():
    rows = features(4)
    group = torch.tensor([0, 1, 2, 2])
    found = merging.group_mean(rows, group, 3, torch.tensor([1e-30, 1e30, 0.0, 0.0]))
    assert torch.equal(found[:2], rows[:2])
    torch.testing.assert_close(found[2], rows[2:].mean(0))
    assert bool(torch.isfinite(merging.group_mean(rows * 1e37, torch.zeros(4, dtype=torch.int64), 1)).all())


def brute_bipartite(rows, compared, k):
    """Lists of (members, row, compared), rebuilt every round."""
    items = [
        ([i], np.asarray(r, float), np.asarray(c, float)) for i, (r, c) in enumerate(zip(rows, compared, strict=True))
    ]
    names = list(range(len(items)))

    def cosine(a, b):
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    while len(items) > k:
        remove = min(len(items) // 2, len(items) - k)
        sources, targets = range(0, len(items), 2), range(1, len(items), 2)
        best = {s: max(targets, key=lambda t: (cosine(items[s][2], items[t][2]), -t)) for s in sources}
        by = sorted(sources, key=lambda s: (-cosine(items[s][2], items[best[s]][2]), s))
        grown = []
        for t in targets:
            group = [t, *(s for s in by[:remove] if best[s] == t)]
            members = [member for g in group for member in items[g][0]]
            grown.append((members, np.mean([items[g][1] for g in group], 0), np.mean([items[g][2] for g in group], 0)))
        names = [names[s] for s in by[remove:]] + [names[t] for t in targets]
        items = [items[s] for s in by[remove:]] + grown
    into = np.empty(len(rows), int)
    for name, (members, _, _) in zip(names, items, strict=True):
        into[members] = name
    return names, into.tolist(), np.array([row for _, row, _ in items])


@pytest.mark.parametrize("n", [1, 2, 3, 7, 32, 45])
def test_bipartite_merge_is_what_lists_give(n):
    rows, keys = features(n), features(n, 5, seed=3)
    for k in range(1, n + 1, 3):
        for matching in (None, keys):
            order, into, merged = merging.bipartite_merge(rows, k, matching)
            expected = brute_bipartite(rows.numpy(), (rows if matching is None else keys).numpy(), k)
            assert (order.tolist(), into.tolist()) == expected[:2]
            np.testing.assert_allclose(merged.numpy(), expected[2], atol=1e-5)


def test_bipartite_merge_prefers_the_lower_index_on_ties():
    order, into, merged = merging.bipartite_merge(torch.ones(6, 2), 4)
    assert order.tolist() == [4, 1, 3, 5], "sources 0 and 2 went into the first target"
    assert into.tolist() == [1, 1, 1, 3, 4, 5]
    assert torch.equal(merged, torch.ones(4, 2))
    with pytest.raises(ValueError, match="budget 7"):
        merging.bipartite_merge(torch.ones(6, 2), 7)


@pytest.mark.parametrize("neighbours", [1, 4, 100])
@pytest.mark.parametrize("with_bonus", [False, True])
def test_absorb_is_what_sorting_each_taker_s_neighbours_gives(neighbours, with_bonus):
    n = 30
    rows, keys, weights, bonus = features(n), features(n, 5, seed=3), scores(n), scores(n, 7)
    takers, pool = torch.tensor([4, 17, 9]), torch.arange(n) % 3 != 1
    found, into = merging.absorb(rows, keys, weights, takers, pool, neighbours, bonus if with_bonus else None)
    unit = keys.double().numpy() / np.linalg.norm(keys.double().numpy(), axis=1, keepdims=True)
    likeness = unit @ unit.T + (bonus.numpy() if with_bonus else 0)
    took = {}
    for taker, row in zip(takers.tolist(), found, strict=True):
        pooled = [j for j in range(n) if pool[j] and j != taker]
        took[taker] = sorted(pooled, key=lambda j: -likeness[taker, j])[:neighbours]
        np.testing.assert_allclose(row, rows[taker] + sum(weights[j] * rows[j] for j in took[taker]), atol=1e-4)
    for j in range(n):
        by = [taker for taker in took if j in took[taker]]
        assert into[j] == (max(by, key=lambda taker: likeness[taker, j]) if by else -1)


def test_absorb_takes_the_lower_index_on_ties_and_no_more_than_there_are():
    rows = torch.arange(5.0)[:, None]
    alone, into = merging.absorb(rows, torch.ones(5, 1), torch.ones(5), torch.tensor([2]), torch.ones(5).bool(), 2)
    assert (alone.tolist(), into.tolist()) == ([[3.0]], [2, 2, -1, -1, -1])
    nobody, into = merging.absorb(rows, torch.ones(5, 1), torch.ones(5), torch.tensor([2]), torch.arange(5) == 2, 2)
    assert (nobody.tolist(), into.tolist()) == ([[2.0]], [-1] * 5)


@pytest.mark.parametrize("groups", [1, 4, 12])
def test_keep_and_group_finds_the_only_count_that_fits(groups):
    n = 24
    generator = torch.Generator().manual_seed(groups)
    ranked, group = torch.randperm(n, generator=generator), torch.randint(0, groups, (n,), generator=generator)
    group = group.unique(return_inverse=True)[1]
    for k in range(1, n + 1):
        order, into = merging.keep_and_group(ranked, group, k)
        best_first = ranked.tolist()
        for m in range(n, -1, -1):  # keep m, then one for each group that has others
            kept, heads = best_first[:m], {}
            for token in best_first[m:]:
                heads.setdefault(int(group[token]), token)
            if m + len(heads) <= k or m == 0:
                break
        chosen = sorted([*kept, *heads.values()], key=best_first.index)[:k]
        assert order.tolist() == chosen
        homes = [token if token in kept else heads.get(int(group[token]), -1) for token in range(n)]
        assert into.tolist() == [home if home in chosen else -1 for home in homes]


def brute_outliers(values, neighbours):
    """Breunig et al. 2000, one value at a time."""
    n = len(values)
    k = min(neighbours, n - 1)
    if k < 1:
        return [False] * n
    distance = [[abs(a - b) for b in values] for a in values]
    near = [sorted((j for j in range(n) if j != i), key=lambda j: distance[i][j])[:k] for i in range(n)]
    reach = [distance[i][near[i][-1]] for i in range(n)]
    density = [1 / (np.mean([max(distance[i][j], reach[j]) for j in near[i]]) + 1e-10) for i in range(n)]
    return [bool(np.mean([density[j] for j in near[i]]) / density[i] > 1.5) for i in range(n)]


@pytest.mark.parametrize(("n", "neighbours"), [(2, 20), (9, 20), (60, 10), (200, 20)])
def test_local_outliers_are_those_of_the_definition(n, neighbours):
    for seed in range(3):
        values = (features(n, 1, seed)[:, 0] * 1.5).exp()
        assert local_outliers(values, neighbours).tolist() == brute_outliers(values.tolist(), neighbours)


def test_local_outliers_of_a_plain_case():
    values = torch.tensor([0.0, 0.1, 0.2, 9.0, 0.3, 0.4])
    assert local_outliers(values, 2).tolist() == [False, False, False, True, False, False]
    for flat in (torch.zeros(8), torch.tensor([3.0])):
        assert not local_outliers(flat, 20).any()
