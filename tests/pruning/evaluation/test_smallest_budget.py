"""Bisection for the smallest budget, against trying every budget."""

from __future__ import annotations

import pytest

from pruning.evaluation.smallest_budget import BestLambda, Bracket, smallest_budget, smallest_budget_over_lambda


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000])
def test_finds_every_threshold(n: int) -> None:
    for threshold in {1, 2, n // 3 or 1, n - 1 or 1, n}:
        asked: list[int] = []

        def same(budget: int, threshold: int = threshold, asked: list[int] = asked) -> bool:
            asked.append(budget)
            return budget >= threshold

        *_, found = smallest_budget(same, n)
        assert found.does == min(threshold, n)
        assert found.closed
        assert found.asked == len(asked) == len(set(asked))
        assert n not in asked
        assert len(asked) <= 2 * n.bit_length()


def test_every_bracket_is_true() -> None:
    brackets = list(smallest_budget(lambda budget: budget >= 12, 100))
    assert brackets[0] == Bracket(100, 0, 0)
    assert all(bracket.does >= 12 > bracket.fails for bracket in brackets)
    assert [bracket.closed for bracket in brackets] == [False] * (len(brackets) - 1) + [True]
    assert brackets[-1] == Bracket(12, 11, len(brackets) - 1)


def test_a_search_that_is_ended_keeps_what_it_knows() -> None:
    known: list[Bracket] = []

    def same(budget: int) -> bool:
        if len(known) == 3:
            raise InterruptedError
        return budget >= 12

    def search() -> None:
        for bracket in smallest_budget(same, 100):
            known.append(bracket)

    with pytest.raises(InterruptedError):
        search()
    assert len(known) == 3
    assert known[-1].does >= 12 > known[-1].fails


def test_an_answer_that_comes_and_goes_still_ends_at_an_edge() -> None:
    good = {*range(40, 101), 7}

    def same(budget: int) -> bool:
        return budget in good

    *_, found = smallest_budget(same, 100)
    assert same(found.does)
    assert not same(found.does - 1)


def test_the_best_lambda() -> None:
    needs = {0.0: 40, 0.25: 9, 0.5: 9, 0.75: 5, 1.0: 30}
    asked: list[float] = []

    def same(value: float, budget: int) -> bool:
        asked.append(value)
        return budget >= needs[value]

    steps = list(smallest_budget_over_lambda(same, list(needs), 100))
    assert steps == [BestLambda(0.0, 40), *[BestLambda(0.25, 9)] * 2, *[BestLambda(0.75, 5)] * 2]
    assert asked.count(1.0) == asked.count(0.5) == 1


def test_nothing_is_below_one_token() -> None:
    steps = list(smallest_budget_over_lambda(lambda value, budget: True, [0.1, 0.9], 50))
    assert steps == [BestLambda(0.1, 1)] * 2
