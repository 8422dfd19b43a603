"""VFlowOpt, all stages: the map of the vision tower goes on to prune inside the language model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import ClassVar

from torch import Tensor

from pruning.schedules import at_depth, equivalent, scaled
from pruning.seen import Seen
from pruning.staged import StagedScore, register_staged

# What the paper's search found for LLaVA-OneVision 7B at 50, 25 and 10 %: shares of what is left at each stage.
FOUND = ((0.7233, 0.7487, 0.4870), (0.2651, 0.9833, 0.8773), (0.1166, 1.0, 0.6011))
AFTERS, DEPTH = (10, 20), 32  # at the same depth 9 and 18 of 28, as published for either


@register_staged
@dataclass(frozen=True)
class VFlowOptInner(StagedScore):
    """After 9 and 18 of 28 layers, those leave whose importance before the language model was lowest.

    The map is that of VFlowOpt's first stage, which also merges what it prunes; nothing of the language model is read.

    https://arxiv.org/abs/2508.05211
    """

    name: ClassVar[str] = "vflowopt_inner"
    title: ClassVar[str] = "VFlowOpt (all stages)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.05211"
    venue: ClassVar[str] = "ICCV 2025"
    first: ClassVar[str] = "vflowopt"
    merges: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "Shares are those found for LLaVA-OneVision 7B, not searched anew: of its three sets the one nearest to the "
        "retention, times one factor; layers scale with the depth. A merged token has the importance of its most "
        "important member."
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"entry_scores"})

    def score(self, seen: Seen) -> Tensor:
        scores: Tensor = seen.signals["entry_scores"]
        return scores

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return _set(FOUND[1], layers)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        nearest = min(FOUND, key=lambda found: abs(_comes_to(found, layers) - retention))
        afters, shares = zip(*_set(nearest, layers), strict=True)
        return scaled(shares, afters, n, layers, retention)


def _set(found: tuple[float, ...], layers: int) -> tuple[tuple[int, float], ...]:
    """Layers that have run, and the share of all tokens that is left."""
    entering, *inside = accumulate(found, mul)
    return (0, entering), *at_depth(tuple(zip(AFTERS, inside, strict=True)), DEPTH, layers)


def _comes_to(found: tuple[float, ...], layers: int) -> float:
    """Its equivalent retention."""
    afters, shares = zip(*_set(found, layers), strict=True)
    return equivalent(afters, shares, 1, layers)
