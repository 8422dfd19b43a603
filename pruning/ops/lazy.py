"""Greedy rules that ask for few pairs of tokens, from the features themselves: no N×N similarity, same picks.

For one setting of one sample: most pairs of tokens are never compared (`lazy_kernels`, `lazy_walks`). What is compared
is the cosine in float64, rounded once to float32; the entries of `scaling.cosine_similarity` miss it by less than 1e-6,
so the picks are those of the matrix wherever no two scores are that close. Ties go to the lower index. On another
device than the CPU the matrix is a moment's work, and is made; where there is no room for it, the CPU selects.

    N  tokens    D  width of the features    K  picks
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pruning import ops
from pruning.budget import check_budget
from pruning.ops import checks, lazy_kernels, lazy_walks
from pruning.ops.lazy_kernels import Coded
from pruning.ops.scaling import cosine_similarity
from pruning.ops.spilling import spilling

CODES = 127  # the largest 8-bit code


@spilling
def mmr(importance: Tensor, features: Tensor, k: int, mmr_lambda: float) -> Tensor:
    """`ops.mmr` by the cosine of the features (N, D) float32: (k,) int64 in pick order.

    Beside the features it holds D bytes for each token and again for each pick. Raises ValueError as `ops.mmr`, and for
    features that are misshapen or not finite.

    >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])  # 0 and 1 nearly repeat each other
    >>> mmr(torch.tensor([1.0, 0.8, 0.1]), features, 2, mmr_lambda=0.5).tolist()
    [0, 2]
    """
    checks.check_features(features)
    check_budget(k, len(features))
    checks.check_values("importance", importance, len(features))
    checks.check_lambda(mmr_lambda)
    if features.device.type != "cpu":
        return ops.mmr(importance, cosine_similarity(features), k, mmr_lambda)
    relevance = importance * torch.tensor(float(mmr_lambda))
    penalty = torch.full_like(importance, 1 - float(mmr_lambda))
    return _greedy(coded(features), relevance, penalty, int(importance.argmax()), k)


@spilling
def farthest_point(features: Tensor, k: int, first: int | Tensor | None = None, among: Tensor | None = None) -> Tensor:
    """`ops.farthest_point` by the cosine of the features (N, D) float32: (k,) int64 in pick order.

    Raises ValueError as `ops.farthest_point`, and for features that are misshapen or not finite.

    >>> farthest_point(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), 2).tolist()
    [2, 0]
    """
    checks.check_features(features)
    check_budget(k, len(features))
    if features.device.type != "cpu":
        return ops.farthest_point(cosine_similarity(features), k, first, among)
    known = coded(features)
    if first is None:
        # The least like the mean are the most likely to be alone.
        turn = np.argsort(known.offset, kind="stable")
        first = int(lazy_kernels.most_isolated(known, turn))
    relevance = checks.pool_relevance(len(features), k, first, among)
    return _greedy(known, relevance, torch.ones_like(relevance), int(first), k)


@spilling
def weighted_farthest_point(importance: Tensor, features: Tensor, k: int) -> Tensor:
    """`ops.weighted_farthest_point` by the cosine of the features (N, D) float32: (k,) int64 in pick order.

    Raises ValueError as `ops.weighted_farthest_point`, and for features that are misshapen or not finite.

    >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    >>> weighted_farthest_point(torch.tensor([1.0, 0.8, 0.1]), features, 3).tolist()
    [0, 2, 1]
    """
    checks.check_features(features)
    check_budget(k, len(features))
    checks.check_values("importance", importance, len(features))
    checks.check_not_negative("importance", importance)
    if features.device.type != "cpu":
        return ops.weighted_farthest_point(importance, cosine_similarity(features), k)
    return _greedy(coded(features), importance.clone(), importance, int(importance.argmax()), k)


@spilling
def thin_out(ranked: Tensor, features: Tensor, reach: Tensor, k: int) -> Tensor:
    """`ops.thin_out` by the cosine of the features (N, D) float32: (k,) int64 in pick order.

    Raises ValueError as `ops.thin_out`, and for features that are misshapen or not finite.

    >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    >>> thin_out(torch.tensor([0, 1, 2]), features, torch.tensor([0.5, 0.5, 0.5]), 2).tolist()
    [0, 2]
    """
    checks.check_features(features)
    check_budget(k, len(features))
    checks.check_values("reach", reach, len(features))
    if features.device.type != "cpu":
        return ops.thin_out(ranked, cosine_similarity(features), reach, k)
    order = np.empty(k, np.int64)
    lazy_walks.thin_out(coded(features), ranked.contiguous().numpy(), reach.detach().contiguous().numpy(), order)
    return torch.from_numpy(order)


def coded(features: Tensor) -> Coded:
    """features (N, D) float32 on the CPU, with what brackets their cosines."""
    rows = features.detach().contiguous().numpy()
    n, d = rows.shape
    inverse, mean = np.empty(n), np.empty(d)
    lazy_kernels.lengths_and_mean(rows, inverse, mean)
    codes = np.empty((n, d), np.int8)
    scale, offset, length, residue = np.empty((4, n))
    # D products of two codes stay below 2^31.
    most = min(CODES, math.isqrt((2**31 - 1) // d))
    lazy_kernels.encode(rows, inverse, mean, most, codes, scale, offset, length, residue)
    return Coded(rows, inverse, codes, scale, offset, length, residue)


def _greedy(known: Coded, relevance: Tensor, penalty: Tensor, first: int, k: int) -> Tensor:
    order = np.empty(k, np.int64)
    weight = penalty.detach().contiguous().numpy()
    lazy_kernels.greedy_mmr(known, relevance.detach().contiguous().numpy(), weight, first, order)
    return torch.from_numpy(order)
