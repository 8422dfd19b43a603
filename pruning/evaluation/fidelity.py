"""Fidelity curves: what is left of the model's answer against tokens kept, method by method.

Every point is measured on the given sample. Knows models only as `LanguageModel`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from pruning.allocation import selector
from pruning.budget import check_retention
from pruning.encoding import Encoding, EncodingMethod, OutOfReachError, encoded_by
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
        self, encoded: Any, question: str, answer_ids: Sequence[int], selections: Sequence[Any]
    ) -> list[Tensor]:
        """One (T, V) float32 per selection or encoding: log-probabilities at the T answer tokens, teacher-forced."""


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
    methods: Sequence[Method | EncodingMethod],
    retentions: Sequence[float] = RETENTIONS,
    *,
    per: Scope = "sample",
    answer: Reply | None = None,
    again: Callable[[Encoding], Any] | None = None,
    cancel: threading.Event | None = None,
    max_batch: int = 16,
) -> Iterator[FidelityPoint]:
    """Yield the fidelity of every method at every retention as it is measured, smallest budget first (the fastest).

    The selections of one retention run through the model together, at most `max_batch` at once, and equal ones run
    once. All tokens kept, none merged, is the reference itself. per: what a budget is for. answer: the full-token
    greedy answer, where it is known; else it is generated. again: encodes the same pictures as a method before the
    tower asks, which has no points at retentions out of its reach; needed for these alone. A set `cancel` ends the
    sweep before the next batch. Raises ValueError as `select_within` does, and where the answer has no words: there is
    nothing to be faithful to.
    """
    needs = frozenset().union(*(method.needs for method in methods if isinstance(method, Method)))
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
    select = {method: _chooser(method, tokens, ratios, per, again) for method in methods}
    measured: dict[Hashable, float] = {tuple(range(tokens.n)): fidelity(full, full)}
    for retention in ratios:
        row = [(method, kept) for method in methods if (kept := _within_reach(select[method], retention)) is not None]
        selections = [kept for _, kept in row]
        keys = [_key(method, kept) for method, kept in row]
        done = 0
        while done < len(row):
            if _stopped(cancel):
                return
            fresh = {key: s for key, s in zip(keys[done:], selections[done:], strict=True) if key not in measured}
            batch = list(fresh)[:max_batch]
            if batch:
                logprobs = vlm.logprobs(encoded, question, answer.ids, [fresh[key] for key in batch])
                measured.update((key, fidelity(full, pruned)) for key, pruned in zip(batch, logprobs, strict=True))
            while done < len(row) and keys[done] in measured:
                method, kept = row[done]
                value, budget = measured[keys[done]], kept.k if isinstance(kept, Selection) else kept.tokens.n
                yield FidelityPoint(method.name, method.title, method.lambda_, budget, retention, value)
                done += 1


def _chooser(
    method: Method | EncodingMethod,
    tokens: VisualTokens,
    retentions: Sequence[float],
    per: Scope,
    again: Callable[[Encoding], Any] | None,
) -> Callable[[float], Any]:
    """From a retention to a selection, or to another encoding."""
    if isinstance(method, Method):
        return selector(method, tokens, retentions, per)
    if again is None:
        raise ValueError(f"{method.title} asks for another encoding of the pictures: say with `again` how to make it")
    return lambda retention: encoded_by(method, tokens, retention, per, again)


def _within_reach(choose: Callable[[float], Any], retention: float) -> Any:
    try:
        return choose(retention)
    except OutOfReachError:
        return None


def _key(method: Method | EncodingMethod, kept: Any) -> Hashable:
    """Equal for what gives the model the same: the kept set, and the method where its rows are its own."""
    if not isinstance(kept, Selection):
        return method, kept.tokens.n
    places = tuple(kept.indices.tolist())
    return places if kept.rows is None else (method, places)


def _stopped(cancel: threading.Event | None) -> bool:
    return cancel is not None and cancel.is_set()
