"""Which differences are real: intervals by the bootstrap, paired tests, Holm's correction, groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 2_000
LEVEL: Final = 0.95
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def interval(scores: Sequence[float], groups: Sequence[str], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean by the percentile bootstrap (Efron and Tibshirani 1993, chapter 13).

    scores: at least one. groups: which picture each is about: pictures are drawn, with all their questions, as
    questions about one picture are not independent.
    """
    means = _resampled(scores, groups, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def paired(first: Sequence[float], second: Sequence[float], groups: Sequence[str]) -> float:
    """p of the hypothesis that two settings are as good, question by question.

    Right or wrong: McNemar's exact test. Scores between: the paired bootstrap of the difference, two-sided.
    """
    if all(score in (0.0, 1.0) for score in (*first, *second)):
        better = sum(a > b for a, b in zip(first, second, strict=True))
        return mcnemar(better, sum(a < b for a, b in zip(first, second, strict=True)))
    differences = [a - b for a, b in zip(first, second, strict=True)]
    means = _resampled(differences, groups, 0)
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))


def mcnemar(b: int, c: int) -> float:
    """Two-sided exact p: b questions only the first has right, c only the second; under the hypothesis b is binomial
    with b + c trials of 1/2 (McNemar 1947, https://doi.org/10.1007/BF02295996).
    """
    tail = sum(comb(b + c, k) for k in range(min(b, c) + 1))
    return min(1.0, 2 * tail / 2 ** (b + c))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p in the order given: the i-th smallest of m times m - i + 1, never below an earlier one, at most 1
    (Holm 1979, https://www.jstor.org/stable/4615733).
    """
    found, highest = [1.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        found[i] = highest
    return found


def letters(names: Sequence[str], differ: Callable[[str, str], bool]) -> dict[str, str]:
    """A name's letters: two names share one where they cannot be told apart. "a" has the first name.

    names: best first. The compact letter display by insertion and absorption (Piepho 2004,
    https://doi.org/10.1198/1061860043515). Beyond 26 groups the letters are doubled.
    """
    groups = [set(names)] if names else []
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if not differ(one, other):
                continue
            split = [part for group in groups for part in _apart(group, one, other)]
            groups = [group for at, group in enumerate(split) if not _absorbed(group, at, split)]
    ordered = sorted(groups, key=lambda group: sorted(map(names.index, group)))
    signs = [LETTERS[at % 26] * (1 + at // 26) for at in range(len(ordered))]
    return {name: "".join(sign for sign, group in zip(signs, ordered, strict=True) if name in group) for name in names}


def _apart(group: set[str], one: str, other: str) -> list[set[str]]:
    return [group - {one}, group - {other}] if {one, other} <= group else [group]


def _absorbed(group: set[str], at: int, groups: Sequence[set[str]]) -> bool:
    """Whether another group says the same; of equal ones the first stays."""
    return any(group < other or (group == other and i < at) for i, other in enumerate(groups))


def _resampled(values: Sequence[float], groups: Sequence[str], seed: int) -> NDArray[np.float64]:
    """(RESAMPLES,) means of the values, groups drawn with replacement."""
    _, which = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(which, weights=np.asarray(values, np.float64))
    sizes = np.bincount(which).astype(np.float64)
    rng, found = np.random.default_rng(seed), np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rng.integers(0, len(sums), len(sums))
        found[i] = sums[drawn].sum() / sizes[drawn].sum()
    return found
