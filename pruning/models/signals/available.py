"""What a loaded model can tell a method: its signals by name, what stands in for some, and the refusal of others."""

from __future__ import annotations

from collections.abc import Mapping, Set

from pruning.models.families.base import Family
from pruning.models.scorer import Scorer
from pruning.models.signals import tower as tower_signals
from pruning.models.trained import KINDS


def signals(family: Family, scorer: Scorer | None, trained: Set[str] = frozenset()) -> frozenset[str]:
    """Names of all signals that the model can provide. trained: modules that prune it, by the signal of each."""
    learned = ({"scorer"} if scorer else set()) | trained
    under = {"patch_entropy"} if family.placed else set()
    return frozenset({"question"} | under | learned | tower_signals.names(family))


def stand_ins(family: Family) -> Mapping[str, str]:
    """Kind of signal -> what stands in for it in this family, where something does."""
    words = "embeddings of the question's words in the language model stand in for a text tower"
    attention = "this vision tower has no CLS token: the attention that a token receives stands in for it"
    stands_in = bool(family.attentions) and not family.cls
    return {"question": words} | ({"vision_attention": attention} if stands_in else {})


def check(needs: Set[str], there: Set[str], family: Family, title: str) -> None:
    """Raise ValueError, naming what there is, unless `there` has all signals in `needs`. title: of the model."""
    unknown = sorted(needs - there)
    if unknown == ["scorer"]:
        raise ValueError(
            f"{title} has no trained importance scorer: choose another importance source, or train one with "
            "`python -m pruning.training scorer --model …`"
        )
    if unknown and unknown[0] in KINDS:
        raise ValueError(
            f"{title} has no trained module for {unknown[0]}: name its folder with --pruner (pruner= in Python), or "
            f"train one with `python -m pruning.training pruner --method {unknown[0]} --model …`"
        )
    if unknown:
        kinds = sorted({name.partition("@")[0] for name in there})
        depth = len(family.attentions)
        layers = f", layers @{-depth} to @{depth - 1}" if depth else ""
        raise ValueError(f"{title} cannot provide the signal {unknown[0]!r}; it has {', '.join(kinds)}{layers}")
