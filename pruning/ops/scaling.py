"""Values and features on common scales, and how alike they are: pure functions of tensors that leave them untouched."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 128  # rows at a time: a fraction of all, and enough to keep a product busy


def minmax(values: Tensor) -> Tensor:
    """(N,) any float dtype -> (N,) float32 in [0, 1]: (w - min) / (max - min); constant values become 0.

    No epsilon in the denominator, so the result does not depend on the scale of `values`.
    """
    values = values.float()
    low, high = values.min(), values.max()
    return torch.where(high > low, (values - low) / (high - low), torch.zeros_like(values))


def unit_rows(features: Tensor) -> Tensor:
    """(N, D) -> (N, D) float32, every row at length 1 whatever its scale; a zero row stays zero."""
    features = features.float()
    norms = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / torch.where(norms > 0, norms, torch.ones_like(norms))


def all_finite(values: Tensor) -> bool:
    """Whether none of the values, of which there is at least one, is NaN or infinite."""
    # NaN goes through to both ends. Looking at every value for itself takes 16 times as long.
    return bool(torch.isfinite(torch.stack(torch.aminmax(values))).all())


def share(values: Tensor) -> Tensor:
    """(N,) any float dtype, >= 0 -> (N,) float32 that sums to 1: w / sum(w); equal parts where all is 0.

    Divided by the largest value first, so the result does not depend on the scale of `values`. Below 0 counts as 0.
    """
    values = values.float().clamp(min=0)
    largest = values.max()
    values = torch.where(largest > 0, values / largest, torch.ones_like(values))
    return values / values.sum()


def cosine_similarity(features: Tensor) -> Tensor:
    """(N, D) -> (N, N) float32, exactly symmetric; a zero-norm feature has similarity 0, to itself too.

    Above the diagonal it is computed, below it copied. An entry misses the exact cosine by at most about D·2⁻²⁴, as any
    float32 product may, mostly by less than 1e-6.
    """
    unit = unit_rows(features)
    n = len(unit)
    similarity = unit.new_empty(n, n)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        rows = unit[start:stop] @ unit[start:].T
        similarity[start:stop, start:] = rows
        similarity[stop:, start:stop] = rows[:, stop - start :].T
        # Products need not be symmetric to the last bit, and the greedy rules read rows for columns.
        corner = rows[:, : stop - start].triu()
        similarity[start:stop, start:stop] = corner + corner.triu(1).T
    return similarity


def mean_cosine(features: Tensor) -> Tensor:
    """(N, D) -> (N,) float32, each token's cosine to all tokens in the mean, itself among them."""
    total = torch.zeros(features.shape[1], device=features.device)
    for rows in features.split(BLOCK):
        total += unit_rows(rows).sum(dim=0)
    # Summed row by row: equal rows have equal means, which a product of matrices does not promise.
    return torch.cat([(unit_rows(rows) * (total / len(features))).sum(dim=1) for rows in features.split(BLOCK)])
