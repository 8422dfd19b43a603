"""The best setting for a budget, by successive halving: all settings on a few questions, the better half of them on
twice as many, and so on, until one is left.

Karnin, Koren and Somekh 2013, https://proceedings.mlr.press/v28/karnin13.html, as Jamieson and Talwalkar 2016,
https://arxiv.org/abs/1502.07943, use it: every round costs about the same. Settings are paired: those that are left
have answered the same questions, and are ranked by all of them. What was asked to choose the best says too much of it:
how good it is, is measured on questions that chose nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil
from typing import Final

from pruning.race.folder import Result
from pruning.race.records import Fault, Record
from pruning.race.settings import ALL
from pruning.race.statistics import holm, interval, paired

Ask = Callable[[Sequence[Record], Sequence[str]], Sequence[Result]]
"""The results of some questions under the settings of these names, in their order."""
HELD_OUT: Final = 0.25  # share of the questions that choose nothing


@dataclass(frozen=True)
class Standing:
    """How a setting stands. rounds: that it was asked in; n: questions; accuracy over them, low, high: its 95 %
    interval. failed: those that it could not be asked, which count as wrong, and why not the first of them. behind: by
    how much the best is better on them, behind_low, behind_high: the interval of that; p: of the paired test that they
    are as good, Holm's over all settings. The best has None in these.
    """

    name: str
    rounds: int
    n: int
    accuracy: float
    low: float
    high: float
    failed: int
    why: str
    behind: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Best:
    """standings: the best first, then by how long they stayed. sizes: questions of each round. fresh, whole: the best,
    and all tokens, on questions that chose nothing; p_whole: of the paired test of these two.
    """

    standings: tuple[Standing, ...]
    sizes: tuple[int, ...]
    fresh: Standing
    whole: Standing
    p_whole: float

    @property
    def name(self) -> str:
        return self.standings[0].name


def split(rows: Iterable[Record | Fault], seed: int, share: float = HELD_OUT) -> tuple[list[Record], list[Record]]:
    """The questions to choose by, and those held out: whole pictures, drawn by the seed, the questions about one of
    them side by side. ValueError for a share outside (0, 1), and where one of the two has none.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share of {share:g} of the questions cannot be held out: name one between 0 and 1")
    asked = [row for row in rows if isinstance(row, Record)]
    pictures = [list(block) for _, block in groupby(asked, lambda row: row.picture.digest())]
    random.Random(seed).shuffle(pictures)
    most, held = ceil(share * len(asked)), list[Record]()
    while pictures and len(held) < most:
        held += pictures.pop()
    choose = [row for block in pictures for row in block]
    if not choose or not held:
        raise ValueError(f"{len(asked)} questions about too few pictures: none is left to choose by, or to hold out")
    return choose, held


def sizes(settings: int, questions: int) -> list[int]:
    """Questions of each round: twice as many as in the one before, for about half the settings.

    >>> sizes(8, 70)
    [10, 20, 40]
    """
    rounds = max(1, (settings - 1).bit_length())
    unit, rest = divmod(questions, 2**rounds - 1)
    if not unit:
        raise ValueError(
            f"{questions} questions are too few to choose among {settings} settings: give {2**rounds - 1} or more, or "
            "fewer settings"
        )
    found = [unit * 2**turn for turn in range(rounds)]
    found[-1] += rest
    return found


def best(
    names: Sequence[str],
    choose: Sequence[Record],
    held: Sequence[Record],
    ask: Ask,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Best:
    """The best of the settings by these questions. Of equal ones the first named stays.

    A question that nobody could be asked counts for nothing, one that a setting failed at as wrong. progress: rounds
    done, of how many. Raises ValueError for fewer than two settings, too few questions, and where none was answered.
    """
    if len(names) < 2:
        raise ValueError(f"{len(names)} setting leaves nothing to choose: name more methods, or λ")
    blocks = sizes(len(names), len(choose))
    alive, at = list(names), 0
    results, rounds = list[Result](), dict.fromkeys(names, 0)
    for turn, size in enumerate(blocks, 1):
        results += [result for result in ask(choose[at : at + size], alive) if not result.error]
        at += size
        if not results:
            raise ValueError("none of the questions could be asked: are they outside of what the model knows?")
        rounds |= dict.fromkeys(alive, turn)
        means = {name: sum(_scores(results, name)) for name in alive}
        alive = sorted(alive, key=lambda name: -means[name])  # stable: the first named of equal ones
        alive = alive[: max(1, ceil(len(alive) / 2))] if turn < len(blocks) else alive
        progress(turn, len(blocks) + 1)
    first = alive[0]
    last = sorted((name for name in names if name != first), key=lambda name: (-rounds[name], -_mean(results, name)))
    p = holm([paired(*_both(results, name, first)) for name in last])
    standings = (
        _standing(results, first, rounds[first]),
        *(_standing(results, name, rounds[name], first, value) for name, value in zip(last, p, strict=True)),
    )
    fresh = [result for result in ask(held, [first, ALL]) if not result.error]
    if not fresh:
        raise ValueError("none of the questions held out could be asked: are they outside of what the model knows?")
    progress(len(blocks) + 1, len(blocks) + 1)
    whole = _standing(fresh, ALL, 0)
    return Best(standings, tuple(blocks), _standing(fresh, first, 0), whole, paired(*_both(fresh, first, ALL)))


def _standing(
    results: Sequence[Result], name: str, rounds: int, best: str | None = None, p: float | None = None
) -> Standing:
    scores = _scores(results, name)
    pictures = [result.digest for result in results if name in result.cells]
    low, high = interval(scores, pictures)
    errors = [cell.error for result in results if (cell := result.cells.get(name)) is not None and cell.error]
    told = Standing(
        name, rounds, len(scores), sum(scores) / len(scores), low, high, len(errors), errors[0] if errors else ""
    )
    if best is None:
        return told
    mine, others, shared = _both(results, name, best)
    apart = [other - own for own, other in zip(mine, others, strict=True)]
    low, high = interval(apart, shared)
    return replace(told, behind=sum(apart) / len(apart), behind_low=low, behind_high=high, p=p)


def _both(results: Sequence[Result], name: str, other: str) -> tuple[list[float], list[float], list[str]]:
    """Scores of both, and the picture, of each question that both were asked."""
    shared = [result for result in results if name in result.cells and other in result.cells]
    return _scores(shared, name), _scores(shared, other), [result.digest for result in shared]


def _scores(results: Sequence[Result], name: str) -> list[float]:
    return [0.0 if cell.error else cell.score for result in results if (cell := result.cells.get(name)) is not None]


def _mean(results: Sequence[Result], name: str) -> float:
    scores = _scores(results, name)
    return sum(scores) / len(scores)
