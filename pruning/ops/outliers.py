"""The local outlier factor of numbers on a line. scikit-learn has it for any space, at 200 MB with what it needs."""

from __future__ import annotations

import torch
from torch import Tensor

DENSITY_FLOOR = 1e-10  # added to a mean distance before it is inverted, as in scikit-learn
LIMIT = 1.5  # a factor above it marks an outlier: scikit-learn's automatic contamination


def local_outliers(values: Tensor, neighbours: int) -> Tensor:
    """(N,) float32 -> (N,) bool: where the local outlier factor (Breunig et al. 2000) lies above 1.5.

    reach(i, j) = max(|v_i - v_j|, distance of j to its k-th neighbour);  density_i = 1 / mean of reach(i, .) over the k
    nearest j;  factor_i = mean density of the k nearest / density_i.  k = neighbours, at most N - 1; one value alone is
    no outlier.
    """
    n = len(values)
    k = min(neighbours, n - 1)
    if k < 1:
        return torch.zeros(n, dtype=torch.bool, device=values.device)
    line, order = values.sort(stable=True)
    # On a line the k nearest are among the k to either side.
    offsets = torch.cat([torch.arange(-k, 0), torch.arange(1, k + 1)]).to(values.device)
    places = torch.arange(n, device=values.device)[:, None] + offsets  # (N, 2k)
    outside = (places < 0) | (places >= n)
    places = places.clamp(0, n - 1)
    distances, by = (line[places] - line[:, None]).abs().masked_fill(outside, torch.inf).sort(dim=1, stable=True)
    near, distances = places.gather(1, by[:, :k]), distances[:, :k]
    reach = torch.maximum(distances, distances[:, -1][near])
    density = 1 / (reach.mean(dim=1) + DENSITY_FLOOR)
    factor = density[near].mean(dim=1) / density
    return torch.zeros_like(order, dtype=torch.bool).scatter(0, order, factor > LIMIT)
