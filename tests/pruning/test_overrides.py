"""Forcing tokens in and out."""

from __future__ import annotations

import pytest
import torch

from pruning import Selection, make
from pruning.overrides import with_overrides
from tests.helpers.samples import sample


def whole(order: list[int]) -> Selection:
    return Selection(torch.tensor(order), len(order))


ALL = whole([3, 1, 4, 0, 5, 2])
FOUR = ALL.prefix(4)


@pytest.mark.parametrize(
    ("ins", "outs", "expected"),
    [
        ([], [], [3, 1, 4, 0]),
        ([2], [], [2, 3, 1, 4]),
        ([4], [], [4, 3, 1, 0]),
        ([], [1], [3, 4, 0, 5]),
        ([2, 5], [3, 1], [2, 5, 4, 0]),
        ([0, 1, 2, 5], [], [0, 1, 2, 5]),
        ([2, 2], [1, 1], [2, 3, 4, 0]),
    ],
)
def test_the_budget_holds(ins, outs, expected) -> None:
    assert with_overrides(FOUR, ALL, ins, outs).order.tolist() == expected


def test_gaps_are_filled_in_the_methods_own_order_where_it_is_not_nested() -> None:
    method, tokens = make("uniform"), sample(30)
    chosen, every = method.select(tokens, 6), method.select(tokens, 30)
    out = chosen.order[:2].tolist()
    order = with_overrides(chosen, every, [], out).order.tolist()
    assert order[:4] == chosen.order[2:].tolist()
    rest = [i for i in every.order.tolist() if i not in chosen.order]
    assert order[4:] == rest[:2]


def test_gaps_are_filled_where_the_method_orders_no_more() -> None:
    own = Selection(torch.tensor([3, 1]), 5)
    assert with_overrides(own, own, [], [3]).order.tolist() == [1, 0]
    assert with_overrides(own, own, [4], [1, 3]).order.tolist() == [4, 0]


def test_merges_are_undone() -> None:
    merged = Selection(torch.tensor([2, 0]), 3, merge_into=torch.tensor([0, 0, 2]), rows=torch.ones(2, 4))
    order = whole([2, 0, 1])
    assert with_overrides(merged, order, [], []) is merged
    changed = with_overrides(merged, order, [1], [])
    assert changed.order.tolist() == [1, 2]
    assert changed.rows is None


@pytest.mark.parametrize(
    ("ins", "outs", "reason"),
    [
        ([6], [], "numbered 0 to 5"),
        ([], [-1], "numbered 0 to 5"),
        ([True], [], "True cannot be forced"),
        (["1"], [], "'1' cannot be forced"),
        ([1], [1], "token 1 is forced in and out"),
        ([0, 1, 2, 3, 4], [], "5 tokens are forced in but the budget is 4"),
        ([], [0, 1, 2], "leaves 3 for a budget of 4"),
    ],
)
def test_what_cannot_be_forced(ins, outs, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        with_overrides(FOUR, ALL, ins, outs)
