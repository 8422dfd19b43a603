"""Regret over turns: tokens are chosen for a conversation's first question; what a later one would have kept besides.

Of every turn: how close the pruned conversation is to one with all tokens, and how close it would be with some of the
dropped tokens back, and what reading the conversation anew with them costs. Knows models only as `Asked`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from pruning.evaluation.cost import prefill_flops
from pruning.evaluation.metrics import fidelity
from pruning.evaluation.verdict import Reply, Verdict, verdict

if TYPE_CHECKING:
    from pruning.models.values import Positions

Rank = Callable[[str], Tensor]
"""(N,) int64 for a question: all tokens, those that are returned first in front."""


class Asked(Protocol):
    """The part of a vision-language model that is asked; `pruning.models` provides it."""

    @property
    def config(self) -> Any: ...
    def answer(
        self, encoded: Any, question: str, kept: Tensor | None, *, history: Any, positions: Positions,
        max_new_tokens: int,
    ) -> Any: ...  # fmt: skip
    def logprobs(
        self, encoded: Any, question: str, answer_ids: Sequence[int], selections: Any, history: Any,
        positions: Positions,
    ) -> list[Tensor]: ...  # fmt: skip


@dataclass(frozen=True)
class Returned:
    """With so many of the dropped tokens back, in the order that `by` names: k are kept then. fidelity: to the answer
    with all tokens; agree: whether the answer is that one, None where there is nothing to compare. flops: of reading
    the whole conversation anew with them.
    """

    by: str
    tokens: int
    k: int
    fidelity: float
    agree: bool | None
    flops: int


@dataclass(frozen=True)
class Turn:
    """One question. full, kept: the answers of the two conversations, each with its own history; fidelity and agree
    compare them, None where the first has no words. flops: of reading the pruned conversation up to here.
    """

    question: str
    full: str
    kept: str
    fidelity: float | None
    agree: bool | None
    flops: int
    returned: tuple[Returned, ...]


def turns(
    vlm: Asked,
    encoded: Any,
    questions: Sequence[str],
    kept: Tensor,
    n: int,
    counts: Sequence[int],
    ranks: Mapping[str, Rank],
    said: Callable[[str, str], Any],
    *,
    in_world: Callable[[str], bool] = lambda question: True,
    positions: Positions = "original",
    max_new_tokens: int = 64,
) -> Iterator[Turn]:
    """Each turn as it is measured; the first has nothing to return: the tokens were chosen for it.

    kept: (K,) int64 of the n tokens. counts: how many are returned, each; more than were dropped are all of them.
    ranks: by name. said: question and answer -> a turn of the model's history. in_world: whether a question means
    anything to the model, with what was said before it.

    Raises ValueError for no question, a count below 1, and as `VLM.answer`.
    """
    if not questions:
        raise ValueError("a conversation has at least one question: name them in order")
    if wrong := [count for count in counts if count < 1]:
        raise ValueError(f"{wrong[0]} tokens cannot be returned: name numbers of at least 1")
    dropped = torch.ones(n, dtype=torch.bool)
    dropped[kept] = False
    whole, pruned = list[Any](), list[Any]()
    for number, question in enumerate(questions):
        how: dict[str, Any] = {"positions": positions, "max_new_tokens": max_new_tokens}
        full = vlm.answer(encoded, question, None, history=tuple(whole), **how)
        short = vlm.answer(encoded, question, kept, history=tuple(pruned), **how)
        told = verdict(full, short, in_world(question))
        close, returned = None, list[Returned]()
        if told.comparable:
            ids = list(full.ids)
            (reference,) = vlm.logprobs(encoded, question, ids, [None], tuple(whole), positions)
            sets = [(by, found) for by, found in _sets(question, counts, ranks, dropped) if number]
            selections = [kept, *(torch.cat([kept, found]) for _, found in sets)]
            own, *others = vlm.logprobs(encoded, question, ids, selections, tuple(pruned), positions)
            close = fidelity(reference, own)
            for (by, found), selection, logp in zip(sets, selections[1:], others, strict=True):
                again: Reply = vlm.answer(encoded, question, selection, history=tuple(pruned), **how)
                cost = prefill_flops(vlm.config, short.prefill_tokens + len(found))
                agree = verdict(full, again).agree
                returned.append(Returned(by, len(found), len(selection), fidelity(reference, logp), agree, cost))
        yield Turn(
            question,
            full.text,
            short.text,
            close,
            None if told is Verdict.OUTSIDE else told.agree,
            prefill_flops(vlm.config, short.prefill_tokens),
            tuple(returned),
        )
        whole.append(said(question, full.text))
        pruned.append(said(question, short.text))


def _sets(
    question: str, counts: Sequence[int], ranks: Mapping[str, Rank], dropped: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Name and (m,) int64 tokens of every set that is returned; those that hold the same are there once for a name."""
    for by, rank in ranks.items():
        order = rank(question)
        back = order[dropped[order]]
        for count in sorted({min(count, len(back)) for count in counts}):
            if count:
                yield by, back[:count]
