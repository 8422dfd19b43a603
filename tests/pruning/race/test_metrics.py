"""Metrics against oracles that are written differently, and against the published examples."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest

from pruning.race import metrics
from pruning.race.vqa import vqa_plain


@cache
def distance(a: str, b: str) -> int:
    """By the recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    replaced = distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, replaced)


def test_edit_distance_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(0, 7))) for _ in range(2))
        assert metrics.edit_distance(a, b) == distance(a, b)


@pytest.mark.parametrize(
    ("said", "answers", "score"),
    [("Ink ", ["ink"], 1.0), ("inks", ["ink"], 0.75), ("ab", ["a"], 0.0), ("x", ["ink", "y"], 0.0), ("", ["a"], 0.0)],
)
def test_anls(said: str, answers: list[str], score: float) -> None:
    assert metrics.anls(said, answers) == score


def test_vqa_soft_is_the_mean_over_all_subsets_of_nine() -> None:
    for agree in range(11):
        humans = ["red"] * agree + [f"other {i}" for i in range(10 - agree)]
        subsets = [min(1, subset.count("red") / 3) for subset in combinations(humans, 9)]
        assert metrics.vqa_soft("Red.", humans) == pytest.approx(sum(subsets) / len(subsets))


@pytest.mark.parametrize(
    ("said", "plain"),
    [("The two dogs!", "2 dogs"), ("dont", "don't"), ("couldntve", "couldn't've"), ("3,000", "3000"), ("a 2.5", "2.5"),
     ("yes/no", "yes no"), ("none.", "0"), ("well", "well")],
)  # fmt: skip
def test_vqa_reads_answers_alike(said: str, plain: str) -> None:
    assert vqa_plain(said) == plain


@pytest.mark.parametrize(
    ("said", "true", "score"),
    [("105", "100", 1), ("105.1", "100", 0), ("95", "100", 1), ("-95", "-100", 1), ("95", "-100", 0), ("0.01", "0", 0),
     ("0.0", "0", 1), ("7%", "0.07", 1), ("1,040", "1000", 1), ("Blue", "blue", 1), ("nan", "nan", 1), ("5", "five", 0),
     ("inf", "3", 0)],
)  # fmt: skip
def test_relaxed_allows_five_percent(said: str, true: str, score: int) -> None:
    assert metrics.relaxed(said, [true]) == score


@pytest.mark.parametrize(
    ("said", "yes"),
    [("Yes", True), ("no", False), ("No, there is none", False), ("There is not a dog.", False), ("maybe", True),
     ("It is here. No doubt", True), ("nothing", True)],
)  # fmt: skip
def test_yes_and_no_are_read_as_pope_reads_them(said: str, yes: bool) -> None:
    assert metrics.says_yes(said) is yes
    assert metrics.yes_no(said, ["Yes"]) == yes


def test_yes_no_counts_are_those_of_the_confusion_matrix() -> None:
    found = metrics.yes_no_counts([(True, True)] * 3 + [(True, False)] + [(False, True)] * 2 + [(False, False)] * 4)
    assert (found.accuracy, found.precision, found.recall, found.yes) == (0.7, 3 / 4, 3 / 5, 0.4)
    assert found.f1 == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert np.isnan(metrics.yes_no_counts([(False, False)]).precision)


@pytest.mark.parametrize(
    ("said", "option"),
    [("B", 1), ("(b)", 1), ("B. a cat", 1), ("the cat", 1), ("The answer is A.", 0), ("Big", None), ("D", None),
     ("A dog", 0), ("A bird", None), ("", None)],
)  # fmt: skip
def test_an_option_is_read_where_one_is_said(said: str, option: int | None) -> None:
    choices = ["a dog", "the cat", "an ox"]
    assert metrics.chosen(said, choices) == option
    assert metrics.multiple_choice(said, ["the cat"], choices) == (option == 1)


@pytest.mark.parametrize(("said", "score"), [("Red.", 1), ("  dark  RED", 1), ("3.5", 0), ("", 0)])
def test_exact(said: str, score: int) -> None:
    assert metrics.exact(said, ["red", "dark red", "35"]) == score
