"""Fidelity curves: what is left of the model's answer against tokens kept, method by method.

Every point is measured on the given sample. Knows models only as `LanguageModel`.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from pruning.allocation import selector
from pruning.budget import check_retention
from pruning.evaluation.metrics import fidelity
from pruning.evaluation.plane import RETENTIONS
from pruning.evaluation.verdict import Reply, check_words
from pruning.grids import Scope
from pruning.method import Method
from pruning.tokens import Selection, VisualTokens


class LanguageModel(Protocol):
    """The part of a vision-language model that a fidelity sweep uses; `pruning.models` provides it."""

    def tokens(self, encoded: Any, question: str, needs: frozenset[str]) -> VisualTokens: ...

    def answer(
        self, encoded: Any, question: str, kept: Selection | None, *, cancel: threading.Event | None = None
    ) -> Reply:
        """The greedy answer; `kept` None = all visual tokens."""

    def logprobs(
        self, encoded: Any, question: str, answer_ids: Sequence[int], selections: Sequence[Selection | None]
    ) -> list[Tensor]:
        """One (T, V) float32 per selection: log-probabilities at the T answer tokens, teacher-forced."""


@dataclass(frozen=True)
class FidelityPoint:
    """What is left of the model's answer when `method` keeps `budget` tokens."""

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
    methods: Sequence[Method],
    retentions: Sequence[float] = RETENTIONS,
    *,
    per: Scope = "sample",
    answer: Reply | None = None,
    cancel: threading.Event | None = None,
    max_batch: int = 16,
) -> Iterator[FidelityPoint]:
    """Yield the fidelity of every method at every retention as it is measured, smallest budget first (the fastest).

    The selections of one retention run through the model together, at most `max_batch` at once, and equal ones run
    once. All tokens kept, none merged, is the reference itself. per: what a budget is for. answer: the full-token
    greedy answer, where it is known; else it is generated. A set `cancel` ends the sweep before the next batch. Raises
    ValueError as `select_within` does, and where the answer has no words: there is nothing to be faithful to.
    """
    needs = frozenset().union(*(method.needs for method in methods))
    tokens = vlm.tokens(encoded, question, needs)
    ratios = sorted({check_retention(retention) for retention in retentions})
    if not methods or not ratios:
        return
    if answer is None:
        answer = vlm.answer(encoded, question, None, cancel=cancel)
    if _stopped(cancel):
        return
    check_words(answer)
    full = vlm.logprobs(encoded, question, answer.ids, [None])[0]
    select = {method: selector(method, tokens, ratios, per) for method in methods}
    measured: dict[Hashable, float] = {tuple(range(tokens.n)): fidelity(full, full)}
    for retention in ratios:
        selections = [select[method](retention) for method in methods]
        keys = [_key(method, selection) for method, selection in zip(methods, selections, strict=True)]
        done = 0
        while done < len(methods):
            if _stopped(cancel):
                return
            fresh = {key: s for key, s in zip(keys[done:], selections[done:], strict=True) if key not in measured}
            batch = list(fresh)[:max_batch]
            if batch:
                logprobs = vlm.logprobs(encoded, question, answer.ids, [fresh[key] for key in batch])
                measured.update((key, fidelity(full, pruned)) for key, pruned in zip(batch, logprobs, strict=True))
            while done < len(methods) and keys[done] in measured:
                method = methods[done]
                value, budget = measured[keys[done]], selections[done].k
                yield FidelityPoint(method.name, method.title, method.lambda_, budget, retention, value)
                done += 1


def _key(method: Method, selection: Selection) -> Hashable:
    """Equal for selections that give the model the same: the kept set, and the method where its rows are its own."""
    kept = tuple(selection.indices.tolist())
    return kept if selection.rows is None else (method, kept)


def _stopped(cancel: threading.Event | None) -> bool:
    return cancel is not None and cancel.is_set()
