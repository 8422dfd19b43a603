"""The search for a smallest set, against all subsets of tiny problems."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import chain, combinations, pairwise

import numpy as np
import pytest

from pruning.evaluation.smallest_set import Outcome, Step, smallest_set


class Problem:
    """A goal of random weights: members help, hinder, and some only in pairs. Counts what it is asked."""

    def __init__(self, seed: int, n: int, monotone: bool) -> None:
        rng = np.random.default_rng(seed)
        self.weights = rng.uniform(0 if monotone else -0.5, 1, n)
        self.pairs = {tuple(sorted(rng.choice(n, 2, replace=False).tolist())): float(rng.uniform(0, 2)) for _ in "abc"}
        self.goal = 0.55 * self.score(tuple(range(n)))
        self.asked: list[frozenset[int]] = []

    def score(self, members: Sequence[int]) -> float:
        together = sum(value for pair, value in self.pairs.items() if set(pair) <= set(members))
        return float(sum(self.weights[i] for i in members)) + together

    def reached(self, members: Sequence[int]) -> bool:
        return self.score(members) >= self.goal

    def __call__(self, sets: Sequence[tuple[int, ...]]) -> list[Outcome]:
        self.asked += map(frozenset, sets)
        return [Outcome(self.score(members), self.reached(members)) for members in sets]


def last(problem: Problem, n: int, **limits: int) -> Step:
    *_, step = smallest_set(problem, range(n), **limits)
    return step


@pytest.mark.parametrize("monotone", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_beside_all_subsets(seed: int, monotone: bool) -> None:
    n = 9
    problem = Problem(seed, n, monotone)
    step = last(problem, n)
    subsets = chain.from_iterable(combinations(range(n), size) for size in range(n + 1))
    fewest = min(len(each) for each in subsets if problem.reached(each))
    assert step.stage == "done"
    assert step.reached
    assert step.minimal
    assert problem.reached(step.members)
    assert fewest <= len(step.members) <= fewest + 2
    for gone in step.members:
        assert not problem.reached([each for each in step.members if each != gone]), "1-minimal"
    assert step.scores == tuple(problem.score(step.members[:k]) for k in range(len(step.members) + 1))
    assert len(problem.asked) == len(set(problem.asked)) == step.done, "nothing is measured twice"
    assert last(Problem(seed, n, monotone), n) == step, "deterministic"


def test_one_that_does_it_alone_is_found_in_one_round() -> None:
    step = last_of(lambda members: Outcome(float(7 in members), 7 in members), 40)
    assert step.members == (7,)
    assert step.done == 41


def test_many_that_must_come_together_are_found_and_nothing_else() -> None:
    needed = set(range(3, 60, 3))  # 19: more than are added one by one
    step = last_of(lambda members: Outcome(len(needed & set(members)), needed <= set(members)), 64)
    assert set(step.members) == needed
    assert step.minimal


def test_a_goal_without_a_gradient_is_reached_too() -> None:
    needed = {2, 11, 30}
    step = last_of(lambda members: Outcome(0.0, needed <= set(members)), 32)
    assert set(step.members) == needed


def test_nothing_is_needed_where_the_goal_is_there() -> None:
    step = last_of(lambda members: Outcome(1.0, True), 5)
    assert (step.members, step.reached, step.minimal, step.done) == ((), True, True, 1)


def test_what_cannot_be_reached_names_nobody() -> None:
    step = last_of(lambda members: Outcome(len(members), False), 20)
    assert (step.members, step.reached, step.minimal, step.stage) == ((), False, False, "done")


@pytest.mark.parametrize("largest", [1, 2, 5, 12, 13, 19])
def test_no_set_is_larger_than_allowed(largest: int) -> None:
    sizes: list[int] = []

    def outcome(members: Sequence[int]) -> Outcome:
        sizes.append(len(members))
        return Outcome(len(members), False)

    last_of(outcome, 20, largest=largest)
    assert max(sizes) == largest


@pytest.mark.parametrize("most", [1, 5, 30, 41, 60])
def test_no_more_is_measured_than_allowed_and_what_is_known_stays(most: int) -> None:
    needed = {3, 4, 5, 6}
    step = last_of(lambda members: Outcome(len(needed & set(members)), needed <= set(members)), 40, most=most, batch=7)
    assert step.done <= most
    assert step.stage == "done"
    assert not step.minimal
    assert set(step.members) <= needed


def test_stop_ends_it_before_the_next_batch_and_keeps_the_members() -> None:
    cancel, steps, needed = threading.Event(), list[Step](), {1, 5, 9, 13}

    def measure(sets: Sequence[tuple[int, ...]]) -> list[Outcome]:
        return [Outcome(len(needed & set(members)), needed <= set(members)) for members in sets]

    for step in smallest_set(measure, range(16), batch=4, cancel=cancel):
        steps.append(step)
        if len(step.members) == 2:
            cancel.set()
    assert steps[-1].stage == "stopped"
    assert steps[-1].done == steps[-2].done
    assert len(steps[-1].members) == 2
    assert set(steps[-1].members) <= needed


def test_steps_tell_how_far_it_is() -> None:
    problem = Problem(0, 30, True)
    steps = list(smallest_set(problem, range(30), batch=4))
    assert [step.left for step in steps[1:9]] == [26, 22, 18, 14, 10, 6, 2, 0]
    assert all(0 < after.done - before.done <= 4 for before, after in pairwise(steps[:-1]))


@pytest.mark.parametrize(
    "given", [{"candidates": []}, {"candidates": [1, 1]}, {"batch": 0}, {"most": 0}, {"largest": 0}]
)
def test_bad_input_is_named(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="at least"):
        next(smallest_set(lambda sets: [], **{"candidates": [1, 2], **given}))  # type: ignore[arg-type]


def last_of(outcome: object, n: int, **limits: int) -> Step:
    *_, step = smallest_set(lambda sets: list(map(outcome, sets)), range(n), **limits)  # type: ignore[call-overload]
    return step
