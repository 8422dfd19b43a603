"""Until which layer every token lives under a plan, and why: what a viewer needs to show one, as one plain value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from pruning import ops
from pruning.evaluation.inspection import CutPlace, ordinal
from pruning.tokens import Selection

if TYPE_CHECKING:
    from pruning.models.language.trace import CutTrace, Trace
    from pruning.plan import Plan

BY = {
    "last_attention": "the last token's attention",
    "text_attention": "the text's attention",
    "next_last_attention": "the last token's attention in the next layer",
    "next_text_attention": "the text's attention in the next layer",
    "keys": "the size of their keys",
    "transitions": "how much the layers changed them",
    "attention": "the attention of all tokens",
    "received": "the attention of all tokens in all layers so far",
    "received_from_last": "what the last token came to look at",
    "atp_llava": "how far they stand above a learned threshold",
    "entry_scores": "their importance before the language model",
}
"""What a rule ranks by, in words, by what it reads."""


@dataclass(frozen=True)
class CutLives:
    """One cut. Lists have a value for each of the N tokens of the unpruned sample, None for those not alive there."""

    after: Annotated[int, Field(description="layers that have run; the cut lies before the next one")]
    method: Annotated[str, Field(description="key of the method whose rule chose")]
    by: Annotated[str | None, Field(description="what it ranks by, in words; null where it has no scores")]
    alive: Annotated[int, Field(description="tokens alive before it")]
    kept: Annotated[int, Field(description="tokens that stay")]
    scores: Annotated[list[float | None], Field(description="(N,) what each token was ranked by; null for the others")]
    ranks: Annotated[
        list[int | None],
        Field(description="(N,) place of each token, from 1 = kept first; null where the rule does not rank it"),
    ]


@dataclass(frozen=True)
class Lives:
    """What came of a plan, for N tokens and L layers. Made of plain values: `dataclasses.asdict` is JSON."""

    plan: Annotated[str, Field(description="the plan as it is written")]
    n: Annotated[int, Field(description="N, visual tokens of all images together")]
    layers: Annotated[int, Field(description="L, layers of the language model")]
    alive: Annotated[list[int], Field(description="(L,) visual tokens that each layer processes")]
    held: Annotated[list[int], Field(description="(L,) visual tokens whose keys and values each layer keeps")]
    equivalent_retention: Annotated[float, Field(description="mean over the layers of the share of N that is alive")]
    lives: Annotated[
        list[int | None],
        Field(description="(N,) layers that process each token: L = it stayed to the end, null = it never entered"),
    ]
    cuts: Annotated[list[CutLives], Field(description="the cuts in order")]


def lives(plan: Plan, trace: Trace) -> Lives:
    """The value of an answer's trace. plan: what it was asked for with."""
    entered = trace.lives > 0
    if trace.cuts:
        entered[trace.cuts[0].alive] = True
    return Lives(
        plan=str(plan),
        n=len(trace.lives),
        layers=len(trace.alive),
        alive=list(trace.alive),
        held=list(trace.held),
        equivalent_retention=trace.equivalent,
        lives=[int(lived) if there else None for lived, there in zip(trace.lives, entered, strict=True)],
        cuts=[_cut(cut, len(trace.lives)) for cut in trace.cuts],
    )


def survivors(trace: Trace) -> Selection:
    """The tokens that live longest, as what is kept of the N: those alive after the last cut that leaves any."""
    last = (trace.lives == trace.lives.max()).nonzero()[:, 0]
    return Selection(last, len(trace.lives))


def endurance(trace: Trace) -> Tensor:
    """(N,) int64: all tokens, those that live longest first; those that leave at one cut by what it ranked them by."""
    longest = survivors(trace).order
    order = [longest]
    for cut in reversed(trace.cuts):
        gone = cut.alive[~torch.isin(cut.alive, torch.cat([cut.order, longest]))]
        order.append(gone if cut.scores is None else gone[ops.topk(cut.scores[gone], len(gone))] if len(gone) else gone)
    there = torch.cat(order)
    every = torch.arange(len(trace.lives))
    return torch.cat([there, every[~torch.isin(every, there)]])


def places(of: Lives, token: int) -> tuple[CutPlace, ...]:
    """A token at every cut that it came to."""
    lived = of.lives[token]
    came = [] if lived is None else [cut for cut in of.cuts if cut.after <= lived]
    return tuple(CutPlace(cut.after, cut.ranks[token], cut.scores[token], cut.alive, cut.kept) for cut in came)


def why(of: Lives, token: int) -> str:
    """What became of one token, in a sentence: "dropped after layer 8: 187th of 256 by the last token's attention, 128
    stayed". Raises ValueError for an index outside 0..N-1.
    """
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < of.n:
        raise ValueError(f"a token is named by its index, a whole number from 0 to {of.n - 1}, not {token!r}")
    lived = of.lives[token]
    if lived is None:
        return f"never entered the language model: {max([of.alive[0], *(cut.alive for cut in of.cuts)])} of {of.n} did"
    fatal = next((cut for cut in of.cuts if cut.after == lived), None)
    if fatal is not None:
        return f"dropped {f'after layer {lived}' if lived else 'before the first layer'}: {_place(fatal, token)}"
    if not of.cuts:
        return "stayed through all layers: nothing leaves between them"
    return f"stayed through all layers: after layer {of.cuts[-1].after} {_place(of.cuts[-1], token)}"


def _place(cut: CutLives, token: int) -> str:
    rank = cut.ranks[token]
    if rank is None:
        return f"{cut.kept:,} of {cut.alive:,} stayed"
    return f"{ordinal(rank)} of {cut.alive:,} by {cut.by}, {cut.kept:,} stayed"


def _cut(cut: CutTrace, n: int) -> CutLives:
    scores: list[float | None] = [None] * n
    ranks: list[int | None] = [None] * n
    if cut.scores is not None:
        values = cut.scores[cut.alive]
        _fill(scores, cut.alive, values.tolist())
        if _ranks_by(cut, values):
            order = cut.alive[ops.topk(values, len(values))]
            _fill(ranks, order, range(1, len(order) + 1))
    read = cut.rule.modules or cut.rule.needs
    by = [words for signal, words in BY.items() if signal in read]
    return CutLives(
        after=cut.after,
        method=cut.rule.name,
        by=" and ".join(by) or cut.rule.title if cut.scores is not None else None,
        alive=len(cut.alive),
        kept=len(cut.order),
        scores=scores,
        ranks=ranks,
    )


def _ranks_by(cut: CutTrace, values: Tensor) -> bool:
    """Whether the highest scores are what stays; not so where a rule also looks at what is alike.

    Tokens that stand for others may have any score.
    """
    own = len(cut.order) - len(cut.merged)
    best = cut.alive[ops.topk(values, own)] if own else cut.alive[:0]
    return bool(torch.isin(best, cut.order).all())


def _fill(target: list[int | None] | list[float | None], at: Tensor, values: Sequence[float]) -> None:
    for place, value in zip(at.tolist(), values, strict=True):
        target[place] = value  # type: ignore[call-overload]
