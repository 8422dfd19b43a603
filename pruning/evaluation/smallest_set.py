"""The smallest set of members that reaches a goal, found approximately: which patches an answer hangs on.

Greedy by measured gain, then pruned back by delta debugging (Zeller and Hildebrandt, Simplifying and Isolating
Failure-Inducing Input, IEEE TSE 28(2), 2002), all in batches. Knows no model: a function measures what a set comes to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Stage = Literal["measuring", "adding", "pruning", "done", "stopped"]

POOL = 32
"""Candidates that are measured in every round after the first: those that gained most when last measured."""
ROUNDS = 12
"""Members that are added one by one; beyond them, twice as many each time."""


@dataclass(frozen=True)
class Outcome:
    """What a set comes to. score: the more, the closer to the goal. reached: whether it is there."""

    score: float
    reached: bool


Measure = Callable[[Sequence[tuple[int, ...]]], Sequence[Outcome]]
"""Sets -> what each comes to."""


@dataclass(frozen=True)
class Step:
    """How far a search is.

    members: the set so far, in the order of their gain; none where it is over and no set reaches the goal.
    scores: of the first 0, 1, … of them, as far as they are measured. reached: whether the whole set reaches the goal.
    minimal: whether no member can be left out alone. done, left: sets measured, and those that the present stage still
    takes, as far as it is known.
    """

    members: tuple[int, ...]
    scores: tuple[float, ...]
    reached: bool
    minimal: bool
    done: int
    left: int
    stage: Stage


def smallest_set(
    measure: Measure,
    candidates: Sequence[int],
    *,
    largest: int | None = None,
    batch: int = 64,
    most: int = 4096,
    cancel: threading.Event | None = None,
) -> Iterator[Step]:
    """Yield what is known after every batch; the last step is "done", or "stopped" soon after `cancel` is set.

    First every candidate alone. Then, one by one, the candidate that gains most of the POOL best when last measured,
    until the goal is reached; after ROUNDS of them the best of the rest, twice as many each time. Then whatever can be
    left out is. The result is minimal in that no member can be left out alone; a smaller set may exist. Where scores
    are equal the earlier candidate comes first, so the same measure gives the same set.

    Args:
        candidates: (C,) different members. largest: members of a set, at most; None = C. batch: sets measured
        together, at most. most: sets measured in all, at most: a search that comes there ends with what it has.

    Raises:
        ValueError: candidates that are none or not different; largest, batch or most below 1.
    """
    if not candidates or len(set(candidates)) < len(candidates):
        raise ValueError(f"{len(candidates)} candidates: a search needs at least one, and each once")
    largest = len(candidates) if largest is None else largest
    if min(largest, batch, most) < 1:
        raise ValueError(f"largest {largest}, batch {batch} and most {most} must be at least 1")
    yield from _Search(measure, candidates, min(largest, len(candidates)), batch, most, cancel).steps()


class _Ended(Exception):  # noqa: N818 - it is no error
    """The search was stopped, or has measured as much as it may."""


class _Search:
    """One search; its parts yield a step after every batch."""

    def __init__(
        self,
        measure: Measure,
        candidates: Sequence[int],
        largest: int,
        batch: int,
        most: int,
        cancel: threading.Event | None,
    ) -> None:
        self._measure, self._candidates, self._cancel = measure, candidates, cancel
        self._largest, self._batch, self._most = largest, batch, most
        self._known: dict[frozenset[int], Outcome] = {}
        self._members: tuple[int, ...] = ()
        self._stage: Stage = "measuring"
        self._minimal = False

    def steps(self) -> Iterator[Step]:
        try:
            yield from self._all([()])
            if not self._of(()).reached:
                yield from self._grow()
            if self._of(self._members).reached:
                self._stage = "pruning"
                yield from self._shrink()
                yield from self._all([self._members[:k] for k in range(len(self._members))])  # the curve
                self._minimal = True
        except _Ended:
            pass
        ended = self._cancel is not None and self._cancel.is_set() and not self._minimal
        yield self._step("stopped" if ended else "done")

    def _grow(self) -> Iterator[Step]:
        """Add the best until the goal is reached; no member stays where nothing reaches it."""
        gains = dict.fromkeys(self._candidates, float("inf"))
        for _ in range(min(ROUNDS, self._largest)):
            known = self._of(self._members).score
            pool = sorted(gains, key=lambda each: -gains[each])[: POOL if self._members else None]
            yield from self._all([(*self._members, each) for each in pool])
            self._stage = "adding"
            outcomes = {each: self._of((*self._members, each)) for each in pool}
            gains |= {each: outcomes[each].score - known for each in pool}
            best = max(pool, key=lambda each: (outcomes[each].reached, outcomes[each].score))
            self._members = (*self._members, best)
            if outcomes[best].reached:
                return
            del gains[best]
        rest, left = sorted(gains, key=lambda each: -gains[each]), self._largest - len(self._members)
        counts = sorted({min(2**power, left) for power in range(1, left.bit_length() + 1)}) if left else []
        tried = [(*self._members, *rest[:count]) for count in counts]
        yield from self._all(tried)
        self._members = next((members for members in tried if self._of(members).reached), ())

    def _shrink(self) -> Iterator[Step]:
        """Delta debugging: leave out a part of the members, ever smaller parts, until no single one can be."""
        parts = 2
        while len(self._members) > 1:
            without = _complements(self._members, parts)
            yield from self._all(without)
            if smaller := [members for members in without if self._of(members).reached]:
                self._members = max(smaller, key=lambda members: self._of(members).score)
                parts = max(2, parts - 1)
            elif parts < len(self._members):
                parts = min(2 * parts, len(self._members))
            else:
                return

    def _all(self, sets: Sequence[tuple[int, ...]]) -> Iterator[Step]:
        """Measure what is not known yet. Raises _Ended."""
        fresh = list({frozenset(members): members for members in sets if frozenset(members) not in self._known}.items())
        for start in range(0, len(fresh), self._batch):
            part = fresh[start : start + self._batch][: self._most - len(self._known)]
            if not part or (self._cancel is not None and self._cancel.is_set()):
                raise _Ended
            outcomes = self._measure([members for _, members in part])
            self._known.update((key, outcome) for (key, _), outcome in zip(part, outcomes, strict=True))
            yield self._step(self._stage, len(fresh) - start - len(part))

    def _of(self, members: tuple[int, ...]) -> Outcome:
        return self._known[frozenset(members)]

    def _step(self, stage: Stage, left: int = 0) -> Step:
        members, scores = self._members, []
        for count in range(len(members) + 1):
            if (outcome := self._known.get(frozenset(members[:count]))) is None:
                break
            scores.append(outcome.score)
        found = self._known.get(frozenset(members))
        reached = found is not None and found.reached
        return Step(members, tuple(scores), reached, self._minimal, len(self._known), left, stage)


def _complements(members: tuple[int, ...], parts: int) -> list[tuple[int, ...]]:
    """The members without each of so many parts of about equal size, in order."""
    parts = min(parts, len(members))
    bounds = [len(members) * i // parts for i in range(parts + 1)]
    return [members[:start] + members[stop:] for start, stop in pairwise(bounds)]
