"""Fidelity curves: what is left of the model's answer against tokens kept, method by method.

Every point is measured on the given sample. Knows models only as `LanguageModel`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, Literal, Protocol

from torch import Tensor

from pruning.choosing import Asked, Cell, Runs, came_to, cells, chooser, name_of, needs_of, title_of
from pruning.encoding import Again
from pruning.evaluation.metrics import fidelity
from pruning.evaluation.plane import RETENTIONS
from pruning.evaluation.verdict import Reply, check_words
from pruning.grids import Scope
from pruning.method import Method
from pruning.plan import Plan
from pruning.staged import StagedMethod
from pruning.tokens import Selection, VisualTokens


class LanguageModel(Protocol):
    """The part of a vision-language model that a fidelity sweep uses; `pruning.models` provides it."""

    @property
    def layers(self) -> int: ...

    def tokens(self, encoded: Any, question: str, needs: frozenset[str]) -> VisualTokens: ...

    def answer(
        self, encoded: Any, question: str, kept: Selection | None, *, cancel: threading.Event | None = None
    ) -> Reply:
        """The greedy answer; `kept` None = all visual tokens."""

    def logprobs(
        self,
        encoded: Any,
        question: str,
        answer_ids: Sequence[int],
        selections: Sequence[Runs | None],
        *,
        positions: Literal["original", "compact"],
    ) -> list[Tensor]:
        """One (T, V) float32 for each of what runs: log-probabilities at the T answer tokens, teacher-forced."""


@dataclass(frozen=True)
class FidelityPoint:
    """What is left of the model's answer when `method` keeps `budget` tokens: a method, a published schedule or a plan.

    retention: as asked for; of a published schedule or a plan what it comes to. budget: tokens kept; where they leave
    between layers, the mean over the layers, rounded: so the same retention has the same budget.
    """

    method: str
    title: str
    mmr_lambda: float | None
    budget: int
    retention: float
    fidelity: float


def fidelity_sweep(
    vlm: LanguageModel,
    encoded: Any,
    question: str,
    methods: Sequence[Asked],
    retentions: Sequence[float] = RETENTIONS,
    *,
    per: Scope = "sample",
    positions: Literal["original", "compact"] = "original",
    answer: Reply | None = None,
    again: Again | None = None,
    cancel: threading.Event | None = None,
    max_batch: int = 16,
) -> Iterator[FidelityPoint]:
    """Yield the fidelity of every method at every retention as it is measured, smallest budget first (the fastest).

    methods: of any registry, published schedules and plans; what `cells` leaves out has no point. What runs at one
    retention goes through the model together, at most `max_batch` at once, and equal ones run once. All tokens kept,
    none merged, is the reference itself. per: what a budget is for. positions: of kept tokens. answer: the full-token
    greedy answer, where it is known; else it is generated. again: encodes the same pictures anew, for methods before
    the tower. A set `cancel` ends the sweep before the next batch. Raises ValueError as `choose` does, and where the
    answer has no words: there is nothing to be faithful to.
    """
    again = again and cache(again)
    needs = frozenset().union(*map(needs_of, methods))
    tokens = vlm.tokens(encoded, question, needs)
    layers = vlm.layers
    wanted, _ = cells(methods, retentions, tokens.n, layers, per, again)
    if not wanted:
        return
    if answer is None:
        answer = vlm.answer(encoded, question, None, cancel=cancel)
    if _stopped(cancel):
        return
    check_words(answer)
    full = vlm.logprobs(encoded, question, answer.ids, [None], positions=positions)[0]
    select = _choosers(wanted, tokens, layers, per, again)
    measured: dict[Hashable, float] = {tuple(range(tokens.n)): fidelity(full, full)}
    for _, group in groupby(wanted, lambda cell: cell.retention):
        row = list(group)
        runs = [select[cell.asked](cell.retention) for cell in row]
        keys = [_key(cell.asked, kept, tokens.n) for cell, kept in zip(row, runs, strict=True)]
        done = 0
        while done < len(row):
            if _stopped(cancel):
                return
            fresh = {key: kept for key, kept in zip(keys[done:], runs[done:], strict=True) if key not in measured}
            batch = list(fresh)[:max_batch]
            if batch:
                runs_now = [fresh[key] for key in batch]
                logprobs = vlm.logprobs(encoded, question, answer.ids, runs_now, positions=positions)
                measured.update((key, fidelity(full, pruned)) for key, pruned in zip(batch, logprobs, strict=True))
            while done < len(row) and keys[done] in measured:
                budget = round(came_to(runs[done], layers, tokens.n) * tokens.n)
                yield _point(row[done], budget, measured[keys[done]])
                done += 1


def _choosers(
    wanted: Sequence[Cell], tokens: VisualTokens, layers: int, per: Scope, again: Again | None
) -> dict[Asked, Callable[[float], Runs]]:
    asked: dict[Asked, list[float]] = {}
    for cell in wanted:
        asked.setdefault(cell.asked, []).append(cell.retention)
    return {each: chooser(each, tokens, layers, retentions, per, again) for each, retentions in asked.items()}


def _point(cell: Cell, budget: int, value: float) -> FidelityPoint:
    asked = cell.asked
    weight = asked.lambda_ if isinstance(asked, Method | StagedMethod) else None
    return FidelityPoint(name_of(asked), title_of(asked), weight, max(1, budget), cell.retention, value)


def _key(asked: Asked, runs: Runs, n: int) -> Hashable:
    """Equal for what gives the model the same: the kept set and the cuts, and the method where its rows are its own."""
    if isinstance(runs, Plan):
        entered = tuple(range(n)) if runs.entering is None else _key(asked, runs.entering, n)
        return (entered, runs.cuts, runs.evict_early) if runs.cuts else entered
    if not isinstance(runs, Selection):
        return asked, runs.tokens.n
    kept = tuple(runs.indices.tolist())
    return kept if runs.rows is None else (asked, kept)


def _stopped(cancel: threading.Event | None) -> bool:
    return cancel is not None and cancel.is_set()
