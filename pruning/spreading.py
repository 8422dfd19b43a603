"""The greedy rules that go by the closest kept token, over a sample's tokens: by its similarity matrix where that is
there, from the features alone where it is not.

The matrix serves all retentions, λ and metrics of a sample and is kept with it: the page makes it as it opens a
picture. Where nobody has asked for it, one selection costs a fraction of it without (`python -m benchmarks.lazy`).
Picks are the same wherever no two scores are within 1e-6.
"""

from __future__ import annotations

from torch import Tensor

from pruning import ops
from pruning.ops import lazy
from pruning.tokens import VisualTokens


def mmr(importance: Tensor, tokens: VisualTokens, k: int, mmr_lambda: float) -> Tensor:
    """`ops.mmr` over the tokens."""
    if tokens.has_similarity:
        return ops.mmr(importance, tokens.similarity, k, mmr_lambda)
    return lazy.mmr(importance, tokens.features, k, mmr_lambda)


def farthest_point(
    tokens: VisualTokens, k: int, first: int | Tensor | None = None, among: Tensor | None = None
) -> Tensor:
    """`ops.farthest_point` over the tokens."""
    if tokens.has_similarity:
        return ops.farthest_point(tokens.similarity, k, first, among)
    return lazy.farthest_point(tokens.features, k, first, among)


def weighted_farthest_point(importance: Tensor, tokens: VisualTokens, k: int) -> Tensor:
    """`ops.weighted_farthest_point` over the tokens."""
    if tokens.has_similarity:
        return ops.weighted_farthest_point(importance, tokens.similarity, k)
    return lazy.weighted_farthest_point(importance, tokens.features, k)
