"""A budget shared out over parts, and the best of every part."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.ops.quotas import share_out, topk_per_part


def shared(wanted, room, k):
    return share_out(torch.tensor(wanted, dtype=torch.float64), torch.tensor(room), k).tolist()


@pytest.mark.parametrize(
    ("wanted", "room", "k", "quota"),
    [
        ([2.0, 3.0], [9, 9], 5, [2, 3]),
        ([1.26, 0.75, 0.99], [2, 2, 2], 3, [2, 0, 1]),  # the missing two go to the highest wanted
        ([6.0, 3.0, 1.0], [4, 9, 9], 10, [4, 5, 1]),  # surplus 2, pulled by 3·6 and 1·8: 1.4 and .6, then one to the 3
        ([8.0, 1.0, 1.0], [2, 2, 9], 10, [2, 2, 6]),
        ([0.1 * 30, 0.9 * 30], [30, 30], 30, [3, 27]),  # 3.0000000000000004 and 27.0
        ([0.7 * 10, 0.3 * 10], [10, 10], 10, [7, 3]),
        ([5.0, 5.0], [9, 9], 4, [2, 2]),  # wanted more than there is
        ([0.0, 0.0, 0.0], [1, 5, 5], 4, [1, 2, 1]),  # nothing wanted: unit by unit in rounds
        ([3.0], [3], 3, [3]),
        ([1.0, 2.0], [0, 9], 3, [0, 3]),
    ],
)
def test_golden_shares(wanted, room, k, quota):
    assert shared(wanted, room, k) == quota


parts = st.lists(st.tuples(st.floats(0, 50), st.integers(0, 20)), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(parts=parts, data=st.data())
def test_shares_are_exact_and_within_their_room(parts, data):
    wanted, room = [list(column) for column in zip(*parts, strict=True)]
    k = data.draw(st.integers(0, sum(room)))
    quota = shared(wanted, room, k)
    assert sum(quota) == k
    assert all(0 <= q <= r for q, r in zip(quota, room, strict=True))
    if sum(wanted) <= k:
        assert all(q >= min(int(w), r) for q, w, r in zip(quota, wanted, room, strict=True))


def test_refuses_more_than_there_is_room_for():
    with pytest.raises(ValueError, match=r"7 tokens cannot be shared out over parts that hold \[3, 3\]"):
        shared([3.0, 4.0], [3, 3], 7)


@settings(max_examples=100, deadline=None)
@given(
    tokens=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5).map(float)), min_size=1, max_size=30), data=st.data()
)
def test_topk_per_part_is_the_best_of_every_part(tokens, data):
    part, scores = [list(column) for column in zip(*tokens, strict=True)]
    quota = [data.draw(st.integers(0, part.count(c))) for c in range(5)]
    kept = []
    for c in range(5):
        kept += sorted((i for i in range(len(part)) if part[i] == c), key=lambda i: -scores[i])[: quota[c]]
    expected = sorted(sorted(kept), key=lambda i: -scores[i])
    assert topk_per_part(torch.tensor(scores), torch.tensor(part), torch.tensor(quota)).tolist() == expected
