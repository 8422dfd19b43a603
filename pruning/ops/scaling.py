"""Values and features on common scales, and how alike they are: pure functions of tensors that leave them untouched."""

from __future__ import annotations

import torch
from torch import Tensor


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
    """(N, D) -> (N, N) float32, exactly symmetric; a zero-norm feature has similarity 0, to itself too."""
    unit = unit_rows(features)
    similarity = unit @ unit.T
    # Matrix products need not be symmetric to the last bit, and the greedy rules read rows for columns.
    if not torch.equal(similarity, similarity.T):
        similarity = torch.triu(similarity) + torch.triu(similarity, 1).T
    return similarity
