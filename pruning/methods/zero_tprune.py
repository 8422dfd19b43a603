"""Zero-TPrune, once before the language model: page rank on the attention graph, then similar tokens leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pruning import ops
from pruning.method import Method, register
from pruning.ops import scaling
from pruning.params import Range
from pruning.tokens import Selection, VisualTokens

ATTENTION_MAP, KEYS = "vision_attention_map@-1", "vision_keys@-1"


@register
@dataclass(frozen=True)
class ZeroTPrune(Method):
    """Important is what the important attend to; of the less important half, what repeats the other half leaves first.

    s⁰ uniform, s^{t+1} = Aᵀ s^t (weighted page rank), A (N, N) the attention map.  The lower half of s is group A, the
    upper group B; each token of A has as similarity its largest cosine of keys to B. The r most similar leave, then the
    lowest s until K are left.

    https://arxiv.org/abs/2305.17328
    Our adaptation: the paper prunes inside the tower, several times; here it is done once, on the last layer, with the
    page rank's single round that the paper gives deep layers. A is the mean over heads, so its head filter and its
    aggregation over heads fall away, and CLS is not in the graph. r is a share of the tokens that leave, half of them
    by default; the paper's own counts are not known to us. Cosines are of the keys of all heads side by side.
    """

    name: ClassVar[str] = "zero_tprune"
    title: ClassVar[str] = "Zero-TPrune (adapted)"
    paper: ClassVar[str] = "https://arxiv.org/abs/2305.17328"
    venue: ClassVar[str] = "CVPR 2024"
    nested: ClassVar[bool] = False
    adaptation: ClassVar[str] = "One cut on the last layer's mean attention; the paper cuts in many layers, by head."

    iterations: Annotated[
        int, Range(1, 50, 1, label="Rounds", help="of the page rank; the paper: 1 in deep layers, 30 to 50 in shallow")
    ] = 1
    similar: Annotated[
        float, Range(0, 1, 0.05, label="Similar first", help="share of the pruned tokens that leave as repetitions")
    ] = 0.5

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({ATTENTION_MAP, KEYS})

    def pick(self, tokens: VisualTokens, budget: int) -> Selection:
        importance = self._page_rank(tokens.signal(ATTENTION_MAP).float())
        keys = scaling.unit_rows(tokens.signal(KEYS).flatten(1))
        upper, lower = ops.topk(importance, tokens.n).tensor_split([(tokens.n + 1) // 2])
        leaving = min(round(self.similar * (tokens.n - budget)), len(lower))
        repeated = (keys[lower] @ keys[upper].T).amax(dim=1)
        left = importance.clone()
        left[lower[repeated.sort(descending=True, stable=True).indices[:leaving]]] = -torch.inf
        return Selection(ops.topk(left, budget), tokens.n, importance)

    def _page_rank(self, attention: Tensor) -> Tensor:
        """(N, N) -> (N,) float32 summing to 1."""
        score = torch.full((len(attention),), 1 / len(attention), device=attention.device)
        for _ in range(self.iterations):
            # CLS takes its share out of every round; only proportions matter, and they stay in range.
            score = scaling.share(score @ attention)
        return score
