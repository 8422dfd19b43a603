"""Statistics against brute force."""

from itertools import combinations, product

import numpy as np
import pytest

from pruning.race.statistics import RESAMPLES, holm, interval, letters, mcnemar, paired


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 1), (4, 4), (0, 9)])
def test_mcnemar_counts_all_outcomes(b: int, c: int) -> None:
    outcomes = [sum(signs) for signs in product((0, 1), repeat=b + c)]
    extreme = sum(abs(k - (b + c) / 2) >= abs(b - c) / 2 for k in outcomes)
    assert mcnemar(b, c) == pytest.approx(extreme / len(outcomes))


def test_holm_rejects_what_the_step_down_rule_rejects() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = list(rng.uniform(0, 0.1, 6))
        adjusted = holm(p)
        for level in (0.01, 0.05, 0.1):
            rejected = set[int]()
            for rank, i in enumerate(np.argsort(p)):
                if p[i] > level / (len(p) - rank):
                    break
                rejected.add(int(i))
            assert {i for i, value in enumerate(adjusted) if value <= level} == rejected


def test_the_interval_draws_pictures_not_questions() -> None:
    alone = interval([0.0, 1.0] * 20, [str(i) for i in range(40)])
    together = interval([0.0] * 20 + [1.0] * 20, ["a"] * 20 + ["b"] * 20)
    assert alone[0] > 0.3
    assert alone[1] < 0.7
    assert together == (0.0, 1.0)


def test_pairs_right_or_wrong_go_to_mcnemar_and_graded_ones_to_the_bootstrap() -> None:
    pictures = [str(i) for i in range(12)]
    assert paired([1.0] * 12, [0.0] * 12, pictures) == mcnemar(12, 0)
    assert paired([0.9] * 12, [0.5] * 12, pictures) == pytest.approx(2 / (RESAMPLES + 1))
    assert paired([0.5] * 12, [0.5] * 12, pictures) == 1.0


def test_names_share_a_letter_where_they_cannot_be_told_apart_and_every_group_is_as_large_as_can_be() -> None:
    rng, names = np.random.default_rng(2), "ABCDEF"
    for _ in range(60):
        apart = {pair for pair in combinations(names, 2) if rng.random() < 0.5}
        found = letters(names, lambda a, b, apart=apart: (a, b) in apart or (b, a) in apart)
        for a, b in combinations(names, 2):
            assert bool(set(found[a]) & set(found[b])) == ((a, b) not in apart)
        groups = {frozenset(n for n in names if sign in found[n]) for sign in "".join(found.values())}
        alike = [set(g) for k in range(1, 7) for g in combinations(names, k) if not apart & set(combinations(g, 2))]
        assert groups == {frozenset(g) for g in alike if not any(g < other for other in alike)}
        assert "a" in found["A"]
