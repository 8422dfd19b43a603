"""HoliTom, both halves: what its outer half left is halved inside the language model; what leaves is merged there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pruning import ops
from pruning.schedules import at_depth
from pruning.seen import Choice, Seen
from pruning.staged import StagedScore, register_staged

ENTERING, LEFT = 0.2, 0.5  # R; share of what entered that is left
AFTER, DEPTH = 18, 28  # of LLaVA-OneVision 7B


@register_staged
@dataclass(frozen=True)
class HoliTomInner(StagedScore):
    """R of the tokens enter, by HoliTom; after 18 of 28 layers half of these stay, and take up the others.

    phi_j = mean over heads of A[last, j] in the layer before the cut; the highest stay.  Each token i that leaves goes
    to the one that stays whose hidden state is most like its own by cosine, by halves and in the tokens' order:
    h <- (h + h_i) / 2.  What stays keeps its position.

    https://arxiv.org/abs/2505.21334 (inner half; the layer and share of the released scripts)
    Our adaptation: the cut scales with the depth of other models; cosines are those before any is merged.
    """

    name: ClassVar[str] = "holitom_inner"
    title: ClassVar[str] = "HoliTom (both halves)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2505.21334"
    venue: ClassVar[str] = "NeurIPS 2025"
    first: ClassVar[str] = "holitom"
    merges: ClassVar[bool] = True
    clips: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "The constants are those for LLaVA-OneVision 7B; the cut scales with the depth of other models. Cosines are "
        "those before any token is merged."
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"last_attention", "hidden"})

    def score(self, seen: Seen) -> Tensor:
        rows: Tensor = seen.signals["last_attention"]
        return rows.mean(0)[seen.visual]

    def pick(self, seen: Seen, k: int) -> Choice:
        scores = self.score(seen)
        order = ops.topk(scores, k)
        states = seen.signals["hidden"][seen.visual]  # (A, D)
        stays = order.sort().values
        leaves = torch.ones(len(states), dtype=torch.bool, device=states.device).index_fill(0, stays, False)
        if not bool(leaves.any()):
            return Choice(order, scores)
        unit = normalize(states, dim=-1)
        home = (unit[leaves] @ unit[stays].T).argmax(-1)  # (A - k,) places among `stays`
        rows = states[stays].clone()
        for into, state in zip(home.tolist(), states[leaves], strict=True):
            rows[into] = (rows[into] + state) / 2
        grown = home.unique()
        return Choice(order, scores, stays[grown], rows[grown])

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return (0, ENTERING), *at_depth(((AFTER, ENTERING * LEFT),), DEPTH, layers)
