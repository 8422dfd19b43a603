"""The smallest budget with which the model says what it says with all of them, for one setting or over a grid of λ.

Knows the engine, not the page. Every answer on the way is cached by content like any other, so a second search costs
nothing, and the budget that was found is answered at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.answers.answering import Asked, answers
from app.engine.device import Task
from app.engine.engine import Engine
from app.pace import Pace
from app.session import Forced, Session, Setting
from pruning.budget import retention_of
from pruning.choosing import one_shot, out_of_reach, title_of
from pruning.evaluation.plane import LAMBDAS
from pruning.evaluation.smallest_budget import Bracket, smallest_budget, smallest_budget_over_lambda
from pruning.evaluation.verdict import Verdict, check_meaning, check_words, verdict

if TYPE_CHECKING:
    from pruning.models import Answer


@dataclass(frozen=True)
class Try:
    """A setting that was asked: how many tokens it keeps, and whether the answer stayed."""

    mmr_lambda: float | None
    tokens: int
    same: bool


@dataclass(frozen=True)
class Search:
    """How far a search is.

    best: the setting with the smallest budget of those that keep the answer; None before one was found
    tokens: how many that is, of n; fails: the most tokens under the same λ that were found not to be enough, 0 = none
    tried: in the order asked; done, left: tries, or values of λ, behind it and ahead of it, at most
    lambdas: how many values of λ are looked at, 0 where λ stays
    answer: what stays the same (of a conversation: its last turn). stage: "searching", "done", "stopped"
    """

    best: Setting | None
    tokens: int
    n: int
    fails: int
    tried: tuple[Try, ...]
    done: int
    left: int
    seconds: float
    lambdas: int = 0
    answer: str = ""
    stage: str = "searching"

    @property
    def pace(self) -> Pace:
        return Pace(self.seconds, self.done, self.done + self.left)


class Stopped(Exception):  # noqa: N818 - it is no error
    """The visitor stopped the search."""


def find_budget(engine: Engine, session: Session, setting: Setting, task: Task) -> Iterator[Search]:
    """Bisect the budgets of a setting. Ends with stage "stopped" soon after `task` is set, knowing what it knows.

    Raises ValueError as `Engine.selection` does, for a question that is no question, for an answer without words, which
    no number of tokens keeps, and where no budget that the forced patches allow keeps the answer.
    """
    if setting.plan is not None:
        raise ValueError(
            f"{title_of(setting.plan)} has a retention of its own, so there is no budget to look for: clear the plan, "
            "and choose a method"
        )
    work = _Asking(engine, session, task)
    top, known = work.n - len(setting.forced.outs), Bracket(work.n, 0, 0)
    best: Setting | None = None

    def search(stage: str) -> Search:
        left = (known.does - known.fails - 1).bit_length()
        return work.search(best, known.fails, known.asked, left, 0, stage)

    yield search("searching")
    try:
        work.check(setting, top)
        for known in smallest_budget(lambda budget: work.same(work.at(setting, budget)), top):
            best = work.at(setting, known.does)
            yield search("searching")
    except Stopped:
        yield search("stopped")
        return
    yield search("done")


def find_lambda(
    engine: Engine, session: Session, setting: Setting, task: Task, lambdas: Sequence[float] = LAMBDAS
) -> Iterator[Search]:
    """Find the λ with the smallest budget, of the present one and a grid; what is best so far after each λ.

    Ends and raises as `find_budget`, and ValueError for a method without λ.
    """
    present = setting.method.lambda_ if setting.one_shot else None
    if present is None:
        inside = "prunes inside the language model and " if setting.staged else ""
        remedy = "choose IDPruner or another method with the two weights"
        raise ValueError(f"{title_of(setting.asked)} {inside}has no λ: {remedy}")
    work = _Asking(engine, session, task)
    top, order, done = work.n - len(setting.forced.outs), [present, *(v for v in lambdas if v != present)], 0
    best: Setting | None = None

    def at(value: float, budget: int) -> Setting:
        method = one_shot(setting.asked).at_lambda(value)
        return work.at(replace(setting, method=method), budget)

    def search(stage: str) -> Search:
        return work.search(best, 0, done, len(order) - done, len(order), stage)

    yield search("searching")
    try:
        work.check(setting, top)
        for found in smallest_budget_over_lambda(lambda value, budget: work.same(at(value, budget)), order, top):
            best, done = at(found.mmr_lambda, found.budget), done + 1
            yield search("searching")
    except Stopped:
        yield search("stopped")
        return
    yield search("done")


class _Asking:
    """Asks the whole conversation under one setting after the other, and remembers what was tried."""

    def __init__(self, engine: Engine, session: Session, task: Task) -> None:
        self._engine, self._session, self._task = engine, session, task
        self._questions = session.checked_questions()
        self._full: list[tuple[Asked, Answer]] = []
        self._tried: list[Try] = []
        self._start = time.perf_counter()
        self.n = engine.encoded(session).tokens.n

    def at(self, setting: Setting, budget: int) -> Setting:
        """The setting at the ratio that a control can hold and that keeps so many tokens."""
        return replace(setting, retention=retention_of(budget, self.n))

    def check(self, setting: Setting, top: int) -> None:
        """Raises ValueError unless the largest budget keeps the answer: with patches forced out it may not."""
        if not self.same(self.at(setting, top)):
            remedy = "release patches that are forced out" if setting.forced.outs else "choose another method"
            raise ValueError(f"Even {top} of {self.n} tokens change the answer: {remedy}")

    def same(self, setting: Setting) -> bool:
        """Whether every answer of the conversation is the all-token one, token for token. Raises Stopped.

        A budget too small for the patches that are forced in does not count as one.
        """
        if not self._full:
            self._ask_all()
        free = replace(setting, forced=Forced())
        if setting.forced and self._engine.selection(self._session, free).k < len(setting.forced.ins):
            return False
        layers, again = self._engine.vlm.layers, self._engine.again(self._session)
        if out_of_reach(setting.asked, self.n, layers, setting.retention, setting.scope, again):
            return False
        runs = self._engine.runs(self._session, setting)
        same = all(
            # As long as all answers were the same, so was the history.
            verdict(answer, self._answer(replace(asked, runs=runs, positions=setting.positions))) is Verdict.SAME
            for asked, answer in self._full
        )
        self._tried.append(Try(setting.method.lambda_, self._kept(setting), same))
        return same

    def search(self, best: Setting | None, fails: int, done: int, left: int, lambdas: int, stage: str) -> Search:
        tokens = self.n if best is None else self._kept(best)
        answer = self._full[-1][1].text if self._full else ""
        seconds = time.perf_counter() - self._start
        return Search(best, tokens, self.n, fails, tuple(self._tried), done, left, seconds, lambdas, answer, stage)

    def _kept(self, setting: Setting) -> int:
        """Tokens kept; of what prunes between layers, alive in their mean."""
        return self._engine.budget(self._session, setting)

    def _ask_all(self) -> None:
        from pruning.models import Turn

        for question in self._questions:
            check_meaning(self._engine.in_world(self._session, question).reason)
        full: list[tuple[Asked, Answer]] = []
        for question in self._questions:
            history = tuple(Turn(asked.question, answer.text) for asked, answer in full)
            asked = Asked(self._session, question, history=history)
            answer = self._answer(asked)
            check_words(answer, f"Turn {len(full) + 1}" if len(self._questions) > 1 else "")
            full.append((asked, answer))
        self._full = full

    def _answer(self, asked: Asked) -> Answer:
        if self._task.is_set():
            raise Stopped
        *_, answer = answers(self._engine, asked, self._task)
        if isinstance(answer, str) or answer.cancelled:
            raise Stopped
        return answer
