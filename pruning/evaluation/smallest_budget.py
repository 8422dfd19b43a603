"""The smallest budget with which a model still says what it says with all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Same = Callable[[int], bool]  # budget -> whether the answer with that many tokens is the full-token one


@dataclass(frozen=True)
class Bracket:
    """What a bisection knows. does: the least budget found to keep the answer; fails: the greatest below it found not
    to, 0 before there is one. asked: how many budgets were tried.
    """

    does: int
    fails: int
    asked: int

    @property
    def closed(self) -> bool:
        """Nothing lies between: `does` tokens are enough, and one fewer is not."""
        return self.does - self.fails == 1


def smallest_budget(same: Same, n: int) -> Iterator[Bracket]:
    """Bisect 1..n: the bracket at the start and after each answer, the last one closed.

    `same(n)` is taken as true without asking: all tokens give the full-token answer by definition. Answers need not be
    monotone in the budget: below the one found there may be a lucky smaller one, which a bisection does not look for.
    Whatever `same` raises ends the search; the brackets so far remain true.
    """
    found = Bracket(n, 0, 0)
    yield found
    while not found.closed:
        # Halving the ratio, not the difference: budgets of 5 and 10 are as far apart as 500 and 1,000.
        middle = round((found.does * max(found.fails, 1)) ** 0.5)
        middle = min(max(middle, found.fails + 1), found.does - 1)
        does, fails = (middle, found.fails) if same(middle) else (found.does, middle)
        found = Bracket(does, fails, found.asked + 1)
        yield found


@dataclass(frozen=True)
class BestLambda:
    """The λ with the smallest budget, of those tried so far; the first one where several need the same."""

    mmr_lambda: float
    budget: int


def smallest_budget_over_lambda(
    same: Callable[[float, int], bool], lambdas: Sequence[float], n: int
) -> Iterator[BestLambda]:
    """The best λ so far, after each λ. A λ that cannot do with one token fewer than the best costs one question."""
    best: BestLambda | None = None
    for value in lambdas:
        ceiling = n if best is None else best.budget - 1
        if best is None or (ceiling >= 1 and same(value, ceiling)):

            def alone(budget: int, value: float = value) -> bool:
                return same(value, budget)

            *_, last = smallest_budget(alone, ceiling)
            best = BestLambda(value, last.does)
        yield best
