"""The greedy rules that compare tokens, over a sample's tokens: by its similarity matrix where that is there, from the
features alone where it is not.

The matrix serves all retentions, λ and metrics of a sample and is kept with it: the page makes it as it opens a
picture. Where nobody has asked for it, one selection costs a fraction of it without (`python -m benchmarks.lazy`).
Picks are the same wherever no two scores are within 1e-6.
"""

from __future__ import annotations

from torch import Tensor

from pruning import ops
from pruning.ops import lazy, rows
from pruning.tokens import VisualTokens

MANY = 2048  # tokens from which a matrix is no small thing, and `rows.deduplicate`, which compares all pairs, pays
SOME = 1 / 8  # kept of fewer tokens from which `rows`, whose entries are made twice, may be slower than the matrix


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


def thin_out(ranked: Tensor, tokens: VisualTokens, reach: Tensor, k: int) -> Tensor:
    """`ops.thin_out` over the tokens."""
    if tokens.has_similarity:
        return ops.thin_out(ranked, tokens.similarity, reach, k)
    return lazy.thin_out(ranked, tokens.features, reach, k)


def least_similar(tokens: VisualTokens, k: int, first: int | Tensor) -> Tensor:
    """`ops.least_similar` over the tokens. Of few tokens, where many stay, the matrix is made."""
    if tokens.has_similarity or (tokens.n < MANY and k > SOME * tokens.n):
        return ops.least_similar(tokens.similarity, k, first)
    return rows.least_similar(tokens.features, k, first)


def dpp(quality: Tensor, tokens: VisualTokens, k: int) -> Tensor:
    """`ops.dpp` over the tokens. Of few tokens, where many stay, the matrix is made."""
    if tokens.has_similarity or (tokens.n < MANY and k > SOME * tokens.n):
        return ops.dpp(quality, tokens.similarity, k)
    return rows.dpp(quality, tokens.features, k)


def deduplicate(ranking: Tensor, tokens: VisualTokens, signal: str, k: int) -> Tensor:
    """`ops.deduplicate` over the tokens, compared by a signal (N, ...). Of few tokens the matrix is made."""
    if tokens.has_similarity_of(signal) or tokens.n < MANY:
        return ops.deduplicate(ranking, tokens.similarity_of(signal), k)
    return rows.deduplicate(tokens.signal(signal).flatten(1), ranking, k)
