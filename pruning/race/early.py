"""`--until-told-apart`: a setting that can no longer win is asked no more, whenever that is known.

Every two settings at one retention bet against each other, picture by picture: with d the mean difference of their
scores over a picture's questions, in [-1, 1], the wealth of the bet that the first is worse is

    W_t = prod_i (1 - l_i d_i),   l_i = clip(-m / (v + m^2), 0, 1/2)

m and v being mean and variance of what came before. Where the first is as good or better, W is a non-negative
supermartingale that begins at 1, so it ever reaches 1/a with a probability of at most a (Ville). That holds at any time
and for any rule of stopping: looking after every picture costs nothing. Testing by betting with the bets of aGRAPA:
Waudby-Smith and Ramdas 2024, https://arxiv.org/abs/2010.09686, sections 4 and B.3. a is the level over all ordered
pairs at a retention (Bonferroni).

Pictures are taken as independent draws: a file that is sorted by kind has to be shuffled before. Nothing is drawn at
random here, so whoever reads the results in their order knows what was dropped when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Final

from pruning.race.folder import Result
from pruning.race.settings import ALL

MOST_BET: Final = 0.5  # of the wealth that a difference of 1 can take


@dataclass(frozen=True)
class Dropped:
    """A setting that is asked no more: since so many pictures and rows, as the other one is better."""

    name: str
    better: str
    pictures: int
    rows: int


@dataclass
class Bet:
    """That the first of two is worse."""

    wealth: float = 1.0
    n: int = 0
    mean: float = 0.0
    squares: float = 1.0  # about the mean; one stands for what is not known yet

    def see(self, d: float) -> None:
        """d: the first's score less the second's, in [-1, 1]."""
        bet = -self.mean / (self.squares / (self.n + 1) + self.mean**2)
        self.wealth *= 1 - min(max(bet, 0.0), MOST_BET) * d
        self.n += 1
        before = self.mean
        self.mean += (d - before) / (self.n + 1)  # as if a difference of 0 had been seen first
        self.squares += (d - before) * (d - self.mean)


@dataclass
class Elimination:
    """Fed with results in their order. settings: of a manifest. level: of dropping any wrongly, at each retention.

    `dropped`: in the order in which they went. Decided when at most one setting is left at every retention.
    """

    settings: Mapping[str, Mapping[str, Any]]
    level: float
    dropped: list[Dropped] = field(default_factory=list)

    def __post_init__(self) -> None:
        levels: dict[float, list[str]] = {}
        for name, told in self.settings.items():
            if name != ALL and told["retention"] is not None:
                levels.setdefault(told["retention"], []).append(name)
        self._levels = list(levels.values())
        self._bets = {pair: Bet() for level in self._levels for pair in permutations(level, 2)}
        self._digest, self._block, self._pictures, self._rows = "", list[Result](), 0, 0

    @property
    def alive(self) -> list[str]:
        """The settings that are asked."""
        gone = {each.name for each in self.dropped}
        return [name for name in self.settings if name not in gone]

    @property
    def decided(self) -> bool:
        """Whether nothing is left to tell apart; never where something has a retention of its own."""
        alive = set(self.alive)
        own = any(told["retention"] is None for told in self.settings.values())
        return bool(self._levels) and not own and all(len(alive & set(level)) <= 1 for level in self._levels)

    def at(self, digest: str) -> None:
        """The next question is about this picture: what the one before says is counted, once it is over."""
        if digest != self._digest:
            self._close()
            self._digest = digest

    def see(self, result: Result) -> None:
        """One more result."""
        if not result.error:
            self.at(result.digest)
            self._block.append(result)
            self._rows += 1

    def _close(self) -> None:
        if not self._block:
            return
        self._pictures += 1
        alive = set(self.alive)
        for (one, other), bet in self._bets.items():
            if {one, other} <= alive and (differences := _differences(self._block, one, other)):
                bet.see(sum(differences) / len(differences))
        for level in self._levels:
            limit = len(level) * (len(level) - 1) / self.level
            for one in level:
                better = [other for other in level if other != one and self._bets[one, other].wealth >= limit]
                if one in alive and better:
                    self.dropped.append(Dropped(one, better[0], self._pictures, self._rows))
        self._block = []


def replay(settings: Mapping[str, Mapping[str, Any]], level: float, results: Iterable[Result]) -> Elimination:
    """As it stands after these results."""
    found = Elimination(settings, level)
    for result in results:
        found.see(result)
    return found


def _differences(block: list[Result], one: str, other: str) -> list[float]:
    cells = [(result.cells.get(one), result.cells.get(other)) for result in block]
    return [a.score - b.score for a, b in cells if a and b and not a.error and not b.error]
