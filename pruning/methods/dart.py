"""DART: duplication matters more than importance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pruning import ops
from pruning.params import Choice as Options
from pruning.params import Range
from pruning.seen import Choice, Seen
from pruning.staged import StagedMethod, register_staged

PIVOTS = 4  # of each kind


@register_staged
@dataclass(frozen=True)
class DART(StagedMethod):
    """Keep a few pivots, and for each of them the tokens that are least like it.

    Pivots: the 4 visual and the 4 text tokens whose keys in layer K - 1 have the largest L1 norm. For each pivot in
    turn, of the tokens not taken yet the q with the lowest cosine to it, by the states at the cut after the final norm.

    https://arxiv.org/abs/2502.11494
    variant "paper": q is chosen so that exactly k tokens stay, the first pivots taking the remainder. "code": as
    released, q = floor(k / 8), then 4 + 8·q tokens; here what that leaves open of k, or has too many, goes to the last
    pivots. The release goes through the pivots in no defined order; here the visual ones come first, each kind by its
    norm.
    """

    name: ClassVar[str] = "dart"
    title: ClassVar[str] = "DART"
    paper: ClassVar[str] = "https://arxiv.org/abs/2502.11494"
    venue: ClassVar[str] = "EMNLP 2025"
    adaptation: ClassVar[str] = (
        "Exactly the asked number of tokens stays, where the release keeps 4 + 8·⌊k/8⌋. In models of fewer than 4·K "
        "layers the cut comes after a quarter of them."
    )

    after: Annotated[int, Range(1, 64, 1, label="Layer K", help="layers that still process all tokens")] = 2
    variant: Annotated[
        Literal["paper", "code"],
        Options(label="Form", help="paper: pivots share the budget evenly · code: ⌊k/8⌋ each, as released"),
    ] = "paper"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"keys", "normed"})

    def pick(self, seen: Seen, k: int) -> Choice:
        norms: Tensor = seen.signals["keys"].abs().sum(-1)  # (R,)
        unit = normalize(seen.signals["normed"], dim=-1)
        visual = ops.topk(norms[seen.visual], min(PIVOTS, k, len(seen.visual)))
        text = ops.topk(norms[seen.text], min(PIVOTS, len(seen.text)))
        taken = visual.tolist()
        free = torch.ones(len(seen.visual), dtype=torch.bool, device=visual.device)
        free[visual] = False
        pivots = torch.cat([seen.visual[visual], seen.text[text]])
        for pivot, share in zip(pivots, self._shares(k - len(taken), k, len(pivots)), strict=True):
            if not share:
                continue
            likeness = unit[seen.visual] @ unit[pivot]
            ranked = ops.topk(torch.where(free, -likeness, -torch.inf), share)
            free[ranked] = False
            taken += ranked.tolist()
        return Choice(torch.tensor(taken, device=visual.device), norms[seen.visual])

    def _shares(self, left: int, k: int, pivots: int) -> list[int]:
        """How many tokens each pivot takes, `left` in all."""
        if self.variant == "paper":
            return [left // pivots + (i < left % pivots) for i in range(pivots)]
        each, shares = k // (2 * PIVOTS), []
        for i in range(pivots):
            shares.append(left if i == pivots - 1 else min(each, left))
            left -= shares[-1]
        return shares

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return ((min(self.after, max(1, layers // 4)), 1 - 0.778),)
