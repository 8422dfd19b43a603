"""The fewest tokens with which a model still says what it says with all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Same = Callable[[int], bool]  # budget -> whether the answer with that many tokens is the full-token one


@dataclass(frozen=True)
class Smallest:
    """A budget whose answer is the full-token one, while that of one token fewer is not (unless it is 1).

    asked: how many budgets were tried. Answers need not be monotone in the budget: below this one there may be a
    lucky smaller budget, which a bisection does not look for.
    """

    budget: int
    asked: int


def smallest_budget(same: Same, n: int, progress: Callable[[int, int], None] = lambda does, fails: None) -> Smallest:
    """Bisect 1..n. `progress` hears (least budget known to do, greatest known not to) after each answer.

    `same(n)` is taken as true without asking: all tokens give the full-token answer by definition.
    """
    does, fails, asked = n, 0, 0
    while does - fails > 1:
        # Halving the ratio, not the difference: budgets of 5 and 10 are as far apart as 500 and 1,000.
        middle = min(max(round((does * max(fails, 1)) ** 0.5), fails + 1), does - 1)
        asked += 1
        if same(middle):
            does = middle
        else:
            fails = middle
        progress(does, fails)
    return Smallest(does, asked)


@dataclass(frozen=True)
class Fewest:
    """The λ that needs the fewest tokens, of those tried so far; the first one where several need the same."""

    mmr_lambda: float
    budget: int


def fewest_over_lambda(same: Callable[[float, int], bool], lambdas: Sequence[float], n: int) -> Iterator[Fewest]:
    """The best λ so far, after each λ. A λ that cannot do with one token fewer than the best costs one question."""
    best: Fewest | None = None
    for value in lambdas:
        ceiling = n if best is None else best.budget - 1
        if best is None or (ceiling >= 1 and same(value, ceiling)):

            def alone(budget: int, value: float = value) -> bool:
                return same(value, budget)

            best = Fewest(value, smallest_budget(alone, ceiling).budget)
        yield best
