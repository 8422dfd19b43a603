import math
from fractions import Fraction

import numpy as np
import pytest

from pruning.budget import check_budget, keep_count, retention_of


@pytest.mark.parametrize(
    ("n", "retention", "kept"),
    [
        (256, 0.25, 64),
        (256, 1, 256),
        (256, 1.0, 256),
        (10, 0.25, 3),  # 2.5: half up, where round() would go to the even 2
        (10, 0.35, 4),
        (100, 0.145, 15),  # 14.499999999999998 in binary
        (7, 0.01, 1),
        (1, 1e-12, 1),
        (3, 0.99, 3),
        (1296, np.float32(0.25), 324),
        (4, Fraction(1, 2), 2),
    ],
)
def test_rounds_half_up_within_1_and_n(n, retention, kept):
    assert keep_count(n, retention) == kept


def test_matches_exact_decimal_arithmetic():
    for n in (1, 2, 9, 37, 144, 256, 1296):
        for percent in range(1, 101):
            exact = Fraction(n * percent, 100)
            assert keep_count(n, percent / 100) == min(n, max(1, math.floor(exact + Fraction(1, 2))))


@pytest.mark.parametrize("retention", [0, -0.1, 1.0001, 1.5, 9, math.nan, math.inf, True, False, "0.5", None, 0.5 + 0j])
def test_refuses_other_retentions_by_value_and_rule(retention):
    with pytest.raises(ValueError, match="above 0 and at most 1") as error:
        keep_count(10, retention)
    assert repr(retention) in str(error.value)


@pytest.mark.parametrize("n", [0, -3, 2.0, True, "4"])
def test_refuses_other_token_counts(n):
    with pytest.raises(ValueError, match="token count"):
        keep_count(n, 0.5)


@pytest.mark.parametrize("budget", [0, -1, 11, True, 2.0, "3", None])
def test_refuses_budgets_outside_1_to_n(budget):
    with pytest.raises(ValueError, match="from 1 to 10"):
        check_budget(budget, 10)


@pytest.mark.parametrize("n", [1, 3, 64, 100, 256, 1296, 16384])
def test_every_budget_has_a_short_ratio(n):
    for budget in {1, 2, 3, n // 7, n // 2, n - 1, n} & set(range(1, n + 1)):
        ratio = retention_of(budget, n)
        assert keep_count(n, ratio) == budget
        digits = len(repr(ratio).partition(".")[2])
        assert digits <= max(2, len(str(n)))
        assert all(keep_count(n, round(ratio, d) or 1) != budget for d in range(2, digits))
    with pytest.raises(ValueError, match=f"from 1 to {n}"):
        retention_of(n + 1, n)


def test_ratios_that_people_write_stay_as_they_are():
    assert [retention_of(budget, 64) for budget in (16, 32, 48, 64)] == [0.25, 0.5, 0.75, 1.0]
