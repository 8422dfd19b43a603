"""Sweeps of methods over λ and retention, and the points that no other point beats.

Two planes: importance retention against Hopkins (geometry of the kept set, needs no language model) and fidelity
against tokens kept (what the model still says). Every point is measured on the given sample. Knows models only as
`LanguageModel`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pruning.budget import keep_count
from pruning.method import Method, make
from pruning.metrics import fidelity, hopkins_prefixes, importance_retention_prefixes
from pruning.tokens import Selection, VisualTokens

LAMBDAS = tuple(step / 20 for step in range(21))
RETENTIONS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0)


class LanguageModel(Protocol):
    """The part of a vision-language model that a fidelity sweep uses; `pruning.models` provides it."""

    def tokens(self, encoded: Any, question: str, needs: frozenset[str]) -> VisualTokens: ...

    def answer(
        self, encoded: Any, question: str, indices: Tensor | None, *, cancel: threading.Event | None = None
    ) -> Any:
        """Something with `.ids`, the token ids of the greedy answer; `indices` None = all visual tokens."""

    def logprobs(
        self, encoded: Any, question: str, answer_ids: Sequence[int], selections: Sequence[Tensor]
    ) -> list[Tensor]:
        """One (T, V) float32 per selection: log-probabilities at the T answer tokens, teacher-forced."""


@dataclass(frozen=True)
class PlanePoint:
    """One kept set. mmr_lambda is None for a method without that knob; hopkins is NaN where undefined (K = 1)."""

    method: str
    title: str
    mmr_lambda: float | None
    budget: int
    retention: float
    importance_retention: float
    hopkins: float


@dataclass(frozen=True)
class FidelityPoint:
    """What is left of the model's answer when `method` keeps `budget` tokens."""

    method: str
    title: str
    mmr_lambda: float | None
    budget: int
    retention: float
    fidelity: float


def plane_methods(importance: str = "scorer") -> tuple[Method, ...]:
    """The curves and reference strategies of the paper's figure, all with the same importance source."""
    sourced = [make(name, importance=importance) for name in ("idpruner", "naive_hybrid", "dpp", "greedy_importance")]
    return (*sourced, *(make(name) for name in ("greedy_diversity", "divprune", "random", "uniform")))


def plane_sweep(
    tokens: VisualTokens,
    importance: Tensor,
    methods: Sequence[Method],
    *,
    lambdas: Sequence[float] = LAMBDAS,
    retentions: Sequence[float] = RETENTIONS,
    seed: int = 0,
    cancel: threading.Event | None = None,
) -> list[PlanePoint]:
    """Every method at every retention, and at every λ where it has the knob `mmr_lambda`.

    importance (N,): by which all methods are judged, whatever they select by. seed: of the Hopkins draw. A set
    `cancel` ends the sweep early with the points so far. Raises ValueError as `Method.select` does.
    """
    budgets = [keep_count(tokens.n, retention) for retention in retentions]
    points: list[PlanePoint] = []
    for method in _along_lambda(methods, lambdas):
        if _stopped(cancel):
            break
        if method.nested:
            order = method.select(tokens, max(budgets)).order
            kept = importance_retention_prefixes(importance, order, budgets).tolist()
            spread = hopkins_prefixes(tokens.similarity, order, budgets, seed).tolist()
        else:
            orders = [method.select(tokens, budget).order for budget in budgets]
            kept = [importance_retention_prefixes(importance, order, [len(order)]).item() for order in orders]
            spread = [hopkins_prefixes(tokens.similarity, order, [len(order)], seed).item() for order in orders]
        points += [
            PlanePoint(method.name, method.title, lambda_of(method), *values)
            for values in zip(budgets, retentions, kept, spread, strict=True)
        ]
    return points


def front(points: Sequence[PlanePoint]) -> list[PlanePoint]:
    """The points that no other beats: none has more importance retention without a higher Hopkins statistic.

    In the order of falling importance retention; equal points stay together; undefined Hopkins values are left out.
    Give it points of one budget: across budgets the larger one nearly always wins.
    """
    ranked = sorted(
        (point for point in points if point.hopkins == point.hopkins),
        key=lambda point: (-point.importance_retention, point.hopkins),
    )
    kept: list[PlanePoint] = []
    for point in ranked:
        twin = kept and (point.importance_retention, point.hopkins) == (kept[-1].importance_retention, kept[-1].hopkins)
        if not kept or twin or point.hopkins < kept[-1].hopkins:
            kept.append(point)
    return kept


def fidelity_sweep(
    vlm: LanguageModel,
    encoded: Any,
    question: str,
    methods: Sequence[Method],
    retentions: Sequence[float] = RETENTIONS,
    *,
    answer_ids: Sequence[int] | None = None,
    cancel: threading.Event | None = None,
    max_batch: int = 16,
) -> Iterator[FidelityPoint]:
    """Yield the fidelity of every method at every retention as it is measured, smallest budget first (the fastest).

    The kept sets of one budget run through the model together, at most `max_batch` at once, and equal sets run once.
    All tokens kept is the reference itself. answer_ids: the full-token greedy answer, where it is known; else it is
    generated. A set `cancel` ends the sweep before the next batch. Raises ValueError as `Method.select` and
    `keep_count` do.
    """
    needs = frozenset().union(*(method.needs for method in methods))
    tokens = vlm.tokens(encoded, question, needs)
    budgets = {retention: keep_count(tokens.n, retention) for retention in sorted(set(retentions))}
    if not methods or not budgets:
        return
    if answer_ids is None:
        answer_ids = vlm.answer(encoded, question, None, cancel=cancel).ids
    if _stopped(cancel):
        return
    if not len(answer_ids):
        raise ValueError("the answer with all tokens is empty, so there is nothing to compare: ask another question")
    everything = torch.arange(tokens.n)
    full = vlm.logprobs(encoded, question, answer_ids, [everything])[0]
    longest = {method: method.select(tokens, max(budgets.values())) for method in methods if method.nested}
    measured: dict[tuple[int, ...], float] = {tuple(everything.tolist()): fidelity(full, full)}
    for retention, budget in budgets.items():
        sets = [tuple(_kept(method, tokens, budget, longest).tolist()) for method in methods]
        done = 0
        while done < len(methods):
            if _stopped(cancel):
                return
            fresh = list(dict.fromkeys(chosen for chosen in sets[done:] if chosen not in measured))[:max_batch]
            if fresh:
                indices = [torch.tensor(chosen) for chosen in fresh]
                for chosen, pruned in zip(fresh, vlm.logprobs(encoded, question, answer_ids, indices), strict=True):
                    measured[chosen] = fidelity(full, pruned)
            while done < len(methods) and sets[done] in measured:
                method = methods[done]
                value = measured[sets[done]]
                yield FidelityPoint(method.name, method.title, lambda_of(method), budget, retention, value)
                done += 1


def lambda_of(method: Method) -> float | None:
    """The method's λ, None where it has none."""
    return getattr(method, "mmr_lambda", None)


def _along_lambda(methods: Sequence[Method], lambdas: Sequence[float]) -> Iterator[Method]:
    for method in methods:
        if lambda_of(method) is None:
            yield method
        else:
            yield from (dataclasses.replace(method, mmr_lambda=value) for value in lambdas)  # type: ignore[call-arg]


def _kept(method: Method, tokens: VisualTokens, budget: int, longest: dict[Method, Selection]) -> Tensor:
    """(K,) ascending, on the CPU: a slice of the longest order where the method is nested."""
    selection = longest[method].prefix(budget) if method.nested else method.select(tokens, budget)
    return selection.indices.cpu()


def _stopped(cancel: threading.Event | None) -> bool:
    return cancel is not None and cancel.is_set()
