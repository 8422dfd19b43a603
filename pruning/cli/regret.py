"""`regret`: a conversation on tokens that were chosen for its first question, and what later ones would have kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from pruning import ops
from pruning.choosing import Asked, choose, needs_of, one_shot
from pruning.cli.media import opened
from pruning.evaluation import regret
from pruning.grids import Scope
from pruning.importance import raw_importance
from pruning.models import VLM, Turn, in_world
from pruning.models.checkpoint.sources import checked, known_name
from pruning.models.values import Positions
from pruning.tokens import Selection

QUESTION, METHOD = "the new question", "the method"


def measured(
    vlm: VLM,
    source: str,
    questions: Sequence[str],
    method: Asked,
    retention: float,
    counts: Sequence[int],
    *,
    per: Scope,
    positions: Positions,
    max_new_tokens: int,
) -> dict[str, Any]:
    """The values of every `regret.Turn` by name, under `turns`; beside them model, n and budget.

    Dropped tokens come back by their relevance to the new question, the cosine to its words, and by the method's own
    order. Merges are left out: tokens are kept as they are. Raises ValueError for a method inside the language model or
    before the tower, one question alone, and as `regret.turns`.
    """
    if len(questions) < 2:
        raise ValueError(f"{len(questions)} question is no conversation: name the later ones behind it")
    rule = one_shot(method)
    image = opened(source, vlm)
    needs = needs_of(rule)
    encoded = vlm.encode([image], needs - {"question"})
    tokens = vlm.tokens(encoded, questions[0], needs)
    _ = tokens.similarity  # two selections read it
    kept = choose(rule, tokens, vlm.layers, retention, per)
    whole = choose(rule, tokens, vlm.layers, 1.0)
    assert isinstance(kept, Selection)
    assert isinstance(whole, Selection)

    def relevance(question: str) -> Tensor:
        asked = vlm.tokens(encoded, question, needs | {"question"})
        return ops.topk(raw_importance(asked, "relevance", "regret"), asked.n)

    found = regret.turns(
        vlm,
        encoded,
        questions,
        kept.indices,
        tokens.n,
        counts,
        {QUESTION: relevance, METHOD: lambda _: whole.order},
        Turn,
        in_world=lambda question: in_world(vlm, encoded, question).inside,
        positions=positions,
        max_new_tokens=max_new_tokens,
    )
    with torch.no_grad():
        return {
            "model": known_name(checked(vlm.model_id)),
            "n": tokens.n,
            "budget": kept.k,
            "turns": [asdict(turn) for turn in found],
        }


def told(result: dict[str, Any]) -> str:
    """In lines: every turn with both answers, how close they are, and what returned tokens would give and cost."""
    lines = [f"{result['budget']} of {result['n']} tokens, chosen for the first question"]
    for turn in result["turns"]:
        lines += [turn["question"], f"  all tokens:  {turn['full']}", f"  kept tokens: {turn['kept']}"]
        if turn["fidelity"] is None:
            lines.append("  nothing to compare")
            continue
        same = "the same" if turn["agree"] else "another answer"
        lines.append(f"  {same}, fidelity {turn['fidelity']:.3f}, prefill {turn['flops'] / 1e9:.2f} GFLOPs")
        for back in turn["returned"]:
            gain = back["fidelity"] - turn["fidelity"]
            said = "the same" if back["agree"] else "another answer"
            close, cost = f"{back['fidelity']:.3f} ({gain:+.3f})", f"{back['flops'] / 1e9:.2f} GFLOPs"
            lines.append(f"  + {back['tokens']} by {back['by']}: {said}, fidelity {close}, to be read anew at {cost}")
    return "\n".join(lines)
