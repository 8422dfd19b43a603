"""What the greedy rules ask of their arguments, with the similarity matrix and without it."""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.ops.scaling import all_finite


def pool_relevance(n: int, k: int, first: int | Tensor, among: Tensor | None) -> Tensor:
    """(N,) float32: 0 for tokens of the pool, -inf for others. Raises ValueError where the pool lacks `first` or k."""
    relevance = torch.zeros(n)
    if among is not None:
        if among.shape != (n,) or not bool(among[first]) or int(among.sum()) < k:
            raise ValueError(f"the pool must be ({n},) bool, hold the first pick and at least {k} tokens")
        relevance[~among.cpu()] = -torch.inf
    return relevance


def check_features(features: Tensor) -> None:
    if features.ndim != 2 or features.dtype != torch.float32 or 0 in features.shape:
        raise ValueError(f"features must be non-empty (N, D) float32, not {tuple(features.shape)} {features.dtype}")
    if not all_finite(features):
        raise ValueError(f"features {tuple(features.shape)} hold NaN or infinite values")


def check_lambda(mmr_lambda: float) -> None:
    if not 0 <= mmr_lambda <= 1:
        raise ValueError(f"mmr_lambda = {mmr_lambda!r} is not allowed: it must be a number from 0 to 1")


def check_values(name: str, values: Tensor, n: int) -> None:
    if values.shape != (n,) or values.dtype != torch.float32:
        raise ValueError(f"{name} must be ({n},) float32, not {tuple(values.shape)} {values.dtype}")
    if not all_finite(values):
        raise ValueError(f"{name} ({n},) holds NaN or infinite values")


def check_not_negative(name: str, values: Tensor) -> None:
    if bool((values < 0).any()):
        raise ValueError(f"{name} must not be negative, but its minimum is {values.min().item():g}")
