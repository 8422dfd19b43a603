"""Two answers about one setting as plain values, under the names that the API and `--json` share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pruning.choosing import Fixed
from pruning.evaluation.cost import kv_cache_bytes, prefill_flops
from pruning.evaluation.lives import Lives
from pruning.evaluation.reencoded import Reencoded
from pruning.evaluation.verdict import Verdict
from pruning.params import LAMBDA, HasKnobs

if TYPE_CHECKING:
    from pruning.choosing import Asked
    from pruning.models import VLM, Answer

Knobs = dict[str, float | str]
WORDLESS = "null where the answer with all tokens has no words, or none that can mean anything"


@dataclass(frozen=True)
class Used:
    """What a result was made with."""

    model: Annotated[str, Field(description="name of the model")]
    method: Annotated[str | None, Field(description="key of the pruning method; null where a plan was asked for")]
    knobs: Annotated[Knobs | None, Field(description="all knobs of the method, λ among them where it has one")]
    mmr_lambda: Annotated[float | None, Field(description="λ, 0 to 1; null for a method without it")]
    retention: Annotated[
        float | None,
        Field(description="share of the visual tokens that is kept, as asked for; null where a plan has its own"),
    ]
    n: Annotated[int, Field(description="N, visual tokens of all images together")]
    budget: Annotated[int, Field(description="K, visual tokens kept; of a plan, those that live longest")]
    plan: Annotated[
        str | None,
        Field(description="what leaves where, as it is written; null where nothing leaves inside the language model"),
    ]
    equivalent_retention: Annotated[
        float, Field(description="mean over the layers of the language model of the share of the N that is alive")
    ]
    alive: Annotated[list[int], Field(description="(L,) visual tokens that each layer of the language model processes")]
    lives: Annotated[
        Lives | None,
        Field(description="until which layer each token lives, and every cut; null where there is no plan"),
    ]


@dataclass(frozen=True)
class Side:
    """One of the two answers: its text so far, and what it cost. `ttft_s` is None until it is measured."""

    text: str = ""
    done: bool = False
    prefill_tokens: int = 0
    flops: int = 0
    kv_bytes: int = 0
    ttft_s: float | None = None


@dataclass(frozen=True)
class Piece:
    """A token of the all-token answer. text: what it adds to the answer, "" for the end of it. sure: its probability
    with all visual tokens; lost: how much of that pruning took, below 0 where the pruned model is surer.
    """

    text: str
    sure: float
    lost: float


@dataclass(frozen=True)
class Answered(Used):
    """Both answers, how far they agree, what each costs. Seconds are measured here; FLOPs and bytes are analytic."""

    question: Annotated[str, Field(description="what was asked")]
    positions: Annotated[str, Field(description="of the kept tokens: original, or compact, numbered anew without gaps")]
    full: Annotated[Side, Field(description="the answer with all N visual tokens")]
    kept: Annotated[Side, Field(description="the answer with the K kept ones")]
    verdict: Annotated[
        Verdict | None,
        Field(
            description="same, different; an answer without words: kept_empty, full_empty (with all N), both_empty; "
            "outside of what the model knows: outside"
        ),
    ]
    in_world: Annotated[bool, Field(description="whether picture and question lie in the world that the model knows")]
    outside: Annotated[str, Field(description="why not; empty where they do")]
    agree: Annotated[bool | None, Field(description=f"whether both answers are the same, token for token; {WORDLESS}")]
    fidelity: Annotated[
        float | None,
        Field(description=f"exp(-mean KL divergence) over the tokens of the all-token answer, 0 to 1; {WORDLESS}"),
    ]
    pieces: Annotated[list[Piece], Field(description="what pruning took from each token of the all-token answer")]
    select_s: Annotated[float | None, Field(description="selection from the features on, seconds")]
    encode_s: Annotated[float, Field(description="encoding of the images with all tokens, seconds")]
    speedup: Annotated[
        float | None, Field(description="time to first token with all tokens over that with the kept ones + selection")
    ]
    encoding: Annotated[
        Reencoded | None, Field(description="the other encoding, where the method asks for one; else null")
    ] = None


def used(
    model: str, asked: Asked, retention: float, n: int, kept: int, layers: int, lives: Lives | None = None
) -> dict[str, Any]:
    """The values of a `Used` by name.

    kept: of n tokens, all of which go through all layers where nothing leaves between them (`lives` None).
    """
    alive, budget, fixed = [kept] * layers, kept, isinstance(asked, Fixed)
    if lives is not None:
        lived = [life or 0 for life in lives.lives]
        alive, budget = lives.alive, lived.count(max(lived))
    return {
        "model": model, "method": None if isinstance(asked, Fixed) else asked.name,
        "knobs": None if fixed else knobs(asked), "mmr_lambda": knobs(asked).get(LAMBDA),
        "retention": None if fixed else retention, "n": n, "budget": budget, "plan": lives and lives.plan,
        "equivalent_retention": sum(alive) / (layers * n), "alive": alive, "lives": lives,
    }  # fmt: skip


def knobs(asked: Asked) -> Knobs:
    """All knobs of a method by name; none of a plan or a published schedule, whose rules have their own."""
    return dataclasses.asdict(asked) if isinstance(asked, HasKnobs) else {}


def side(vlm: VLM, answer: Answer, ttft_s: float | None = None) -> Side:
    """What an answer says and costs this model; of a plan by what each layer processes and holds."""
    processed: int | list[int] = answer.prefill_tokens
    held: int | list[int] = answer.prefill_tokens
    if answer.trace is not None:
        text = answer.prefill_tokens - answer.trace.entered
        processed = [text + count for count in answer.trace.alive]
        held = [text + count for count in answer.trace.held]
    return Side(
        text=answer.text,
        done=not answer.cancelled,
        prefill_tokens=answer.prefill_tokens,
        flops=prefill_flops(vlm.config, processed),
        kv_bytes=kv_cache_bytes(vlm.config, held, vlm.dtype),
        ttft_s=ttft_s,
    )


def speedup(full: Side, kept: Side, select_s: float | None) -> float | None:
    """TTFT with all tokens over TTFT with the kept ones, selection included; None until all three are measured."""
    if full.ttft_s is None or kept.ttft_s is None or select_s is None:
        return None
    return full.ttft_s / max(1e-9, kept.ttft_s + select_s)
