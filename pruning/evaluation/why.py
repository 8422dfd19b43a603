"""Which patches an answer hangs on: those that would bring it back, those that it cannot do without.

Every set is measured: the answer is forced under it, in batches. Knows models only as `Forced`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from pruning.evaluation.metrics import fidelity, token_probabilities
from pruning.evaluation.smallest_set import Outcome, Stage, Step, smallest_set
from pruning.evaluation.verdict import Reply, check_words

if TYPE_CHECKING:
    from pruning.models.values import Positions

Way = Literal["return", "need"]


class Forced(Protocol):
    """The part of a vision-language model that is asked; `pruning.models` provides it."""

    def logprobs(
        self,
        encoded: Any,
        question: str,
        answer_ids: Sequence[int],
        selections: Sequence[Tensor | None],
        *,
        positions: Positions,
    ) -> list[Tensor]:
        """One (T, V) float32 for each kept set (K,) int64, None = all: log-probabilities at the answer's tokens."""


@dataclass(frozen=True)
class Found:
    """What is known of the patches that an answer hangs on.

    way: "return", dropped patches whose return brings the answer back; "need", kept ones without which it is lost.
    patches: indices of visual tokens, those that change most first; none at the end where no set of them does it.
    fidelities: to the answer, after the first 0, 1, … of them were returned or taken away, as far as they are measured.
    reached: whether all of them do it. minimal: whether fewer of them, one left out, do not. done, left: sets measured,
    and those that the present stage still takes. candidates: how many patches were looked among.
    """

    way: Way
    patches: tuple[int, ...]
    fidelities: tuple[float, ...]
    reached: bool
    minimal: bool
    done: int
    left: int
    stage: Stage
    candidates: int


def returning(
    model: Forced,
    encoded: Any,
    question: str,
    answer: Reply,
    kept: Sequence[int],
    n: int,
    *,
    positions: Positions = "original",
    batch: int = 64,
    most: int = 4096,
    cancel: threading.Event | None = None,
) -> Iterator[Found]:
    """Look for the fewest of the dropped patches whose return to the `kept` ones restores an answer, token for token.

    answer: greedy, with all n visual tokens. kept: indices below n, each once. positions: of kept tokens. Yields after
    every batch, as `smallest_set`. Where the kept ones give that answer already, no patch is needed and the first set
    is the last.

    Raises:
        ValueError: an answer without words; nothing that was dropped, or kept.
    """
    check_words(answer)
    stays = _checked(kept, n)
    dropped = [i for i in range(n) if i not in stays]
    if not dropped:
        raise ValueError(f"all {n} tokens are kept, so no patch can be returned: keep fewer")
    full = model.logprobs(encoded, question, answer.ids, [None], positions=positions)[0]

    def measure(sets: Sequence[tuple[int, ...]]) -> list[Outcome]:
        more = [_indices(stays.union(members)) for members in sets]
        forced = model.logprobs(encoded, question, answer.ids, more, positions=positions)
        return [Outcome(fidelity(full, logp), says(logp, answer)) for logp in forced]

    for step in smallest_set(measure, dropped, batch=batch, most=most, cancel=cancel):
        yield _found("return", step, step.scores, len(dropped))


def needing(
    model: Forced,
    encoded: Any,
    question: str,
    answer: Reply,
    kept: Sequence[int],
    n: int,
    *,
    positions: Positions = "original",
    batch: int = 64,
    most: int = 4096,
    cancel: threading.Event | None = None,
) -> Iterator[Found]:
    """Look for the fewest of the kept patches without which an answer is lost: the model says something else.

    answer: greedy, with the `kept` ones. One of them always stays. Yields as `returning`; `reached` is false at the end
    where the answer stays whatever goes.

    Raises:
        ValueError: an answer without words; fewer than two kept patches.
    """
    check_words(answer)
    stays = _checked(kept, n)
    if len(stays) < 2:
        raise ValueError("one token is kept, and none can be taken away from it: keep more")
    before = model.logprobs(encoded, question, answer.ids, [_indices(stays)], positions=positions)[0]

    def measure(sets: Sequence[tuple[int, ...]]) -> list[Outcome]:
        fewer = [_indices(stays.difference(gone)) for gone in sets]
        forced = model.logprobs(encoded, question, answer.ids, fewer, positions=positions)
        return [Outcome(1 - fidelity(before, logp), not says(logp, answer)) for logp in forced]

    candidates = sorted(stays)
    steps = smallest_set(measure, candidates, largest=len(stays) - 1, batch=batch, most=most, cancel=cancel)
    for step in steps:
        yield _found("need", step, tuple(1 - score for score in step.scores), len(stays))


def removal_losses(
    model: Forced,
    encoded: Any,
    question: str,
    answer: Reply,
    kept: Sequence[int],
    n: int,
    *,
    positions: Positions = "original",
    batch: int = 64,
) -> Tensor:
    """(K, T) float32: how much of its probability each of the T answer tokens loses where one of the K `kept` patches,
    in their order, is taken away; below 0 where the model is then surer of it. One pass for each patch.

    Raises ValueError as `needing`.
    """
    check_words(answer)
    stays = _checked(kept, n)
    if len(stays) < 2:
        raise ValueError("one token is kept, and none can be taken away from it: keep more")
    sets = [_indices(stays), *(_indices(stays - {gone}) for gone in kept)]
    sure = [
        token_probabilities(logp, answer.ids)
        for start in range(0, len(sets), batch)
        for logp in model.logprobs(encoded, question, answer.ids, sets[start : start + batch], positions=positions)
    ]
    return sure[0] - torch.stack(sure[1:])


def summary(found: Found) -> str:
    """What is known, in a sentence."""
    back = found.way == "return"
    what = "dropped patches" if back else "kept patches"
    if not found.reached:
        does = "brings the answer back" if back else "is needed: the answer stays whatever is taken away"
        return f"no set of {what} that was measured {does}"
    if not found.patches:
        return "no patch has to be returned: the kept tokens, unmerged, give the answer already"
    does = "bring the answer back" if back else "are needed: without them the answer is lost"
    if len(found.patches) == 1:
        does = "brings the answer back" if back else "is needed: without it the answer is lost"
    least = "" if found.minimal else " (not yet the fewest: the search ended)"
    return f"{len(found.patches)} of {found.candidates} {what} {does}{least}"


def costliest(lost: Tensor, among: Sequence[int], most: int = 5) -> list[tuple[int, float]]:
    """(patch, loss) of those whose removal costs one answer token most, the largest first. lost: (K,) of its
    probability, one for each patch of `among`.
    """
    best = lost.argsort(descending=True, stable=True)[:most].tolist()
    return [(among[i], float(lost[i])) for i in best]


def says(logp: Tensor, answer: Reply) -> bool:
    """Whether a model whose log-probabilities (T, V), forced on an answer, are these gives it greedily."""
    return logp.argmax(-1).tolist() == list(answer.ids)


def _checked(kept: Sequence[int], n: int) -> frozenset[int]:
    stays = frozenset(kept)
    if not stays or len(stays) < len(kept) or not all(0 <= i < n for i in stays):
        raise ValueError(f"{len(kept)} kept tokens: they must be at least one, each once, numbered 0 to {n - 1}")
    return stays


def _indices(members: frozenset[int]) -> Tensor:
    return torch.tensor(sorted(members))


def _found(way: Way, step: Step, fidelities: tuple[float, ...], candidates: int) -> Found:
    return Found(
        way, step.members, fidelities, step.reached, step.minimal, step.done, step.left, step.stage, candidates
    )
