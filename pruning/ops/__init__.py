"""The selection rules as pure functions of tensors; nothing here knows models, tokens or registries.

Every function leaves its inputs untouched and breaks ties in favour of the lower index. The greedy rules run compiled
on CPU tensors (`kernels`, `set_kernels`) and as a loop without host synchronisation on any other device
(`device_loops`): same picks. Given the similarity, mmr and farthest_point cost O(K N); that is reading K rows once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning.budget import check_budget
from pruning.ops import device_loops, kernels, set_kernels
from pruning.ops.checks import check_lambda, check_not_negative, check_values, pool_relevance
from pruning.ops.scaling import all_finite


def topk(scores: Tensor, k: int) -> Tensor:
    """(N,) -> (k,) int64, the k highest in falling order. (torch.topk leaves the order of ties open.)

    >>> topk(torch.tensor([0.2, 0.9, 0.9, 0.5]), 3).tolist()
    [1, 2, 3]
    """
    check_budget(k, len(scores))
    return scores.sort(descending=True, stable=True).indices[:k]


def topk_by_level(level: Tensor, scores: Tensor, k: int) -> Tensor:
    """level (N,), scores (N,) -> (k,) int64: the higher level first, inside a level the higher score.

    >>> topk_by_level(torch.tensor([0, 1, 0, 1]), torch.tensor([0.9, 0.1, 0.5, 0.3]), 3).tolist()
    [3, 1, 0]
    """
    check_budget(k, len(scores))
    order = scores.sort(descending=True, stable=True).indices
    return order[level[order].sort(descending=True, stable=True).indices[:k]]


def soft_topk(scores: Tensor, k: int) -> Tensor:
    """(..., N) -> (..., N) float32 p = sigmoid(s + t) with t such that each row's sum is k, 1 <= k <= N.

    VisionSelector, arXiv 2510.16598: t by 64 bisection steps, as in the published code. k = N gives ones.

    >>> soft_topk(torch.tensor([2.0, 0.0, 0.0]), 1).sum().round().item()
    1.0
    """
    check_budget(k, scores.shape[-1])
    if k == scores.shape[-1]:
        return torch.ones_like(scores, dtype=torch.float32)
    s = scores.float() if scores.device.type == "mps" else scores.double()
    low, high = -s.amax(-1, keepdim=True) - 40, -s.amin(-1, keepdim=True) + 40
    for _ in range(64):
        middle = (low + high) / 2
        too_many = torch.sigmoid(s + middle).sum(-1, keepdim=True) > k
        low, high = torch.where(too_many, low, middle), torch.where(too_many, middle, high)
    return torch.sigmoid(s + (low + high) / 2).float()


def mmr(importance: Tensor, similarity: Tensor, k: int, mmr_lambda: float) -> Tensor:
    """Greedy maximal marginal relevance: pick argmax λ·importance_i - (1 - λ)·max_{s chosen} similarity_{i,s}.

    importance (N,) float32, used as given (normalise before, see `minmax`); similarity (N, N) float32, symmetric.
    Returns (k,) int64 in pick order; the first is the most important token whatever λ is. All arithmetic is float32,
    so the picks are those of a brute-force float32 evaluation. A run to k = N holds the picks of every smaller k.
    Raises ValueError for wrong shapes, a k outside 1..N, a λ outside 0..1 or values that are not finite.

    >>> alike = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])  # 0 and 1 nearly repeat each other
    >>> mmr(torch.tensor([1.0, 0.8, 0.1]), alike, 2, mmr_lambda=0.5).tolist()
    [0, 2]
    >>> mmr(torch.tensor([1.0, 0.8, 0.1]), alike, 2, mmr_lambda=1.0).tolist()
    [0, 1]
    """
    return mmr_sweep(importance, similarity, k, [mmr_lambda])[0]


def mmr_sweep(importance: Tensor, similarity: Tensor, k: int, lambdas: Sequence[float]) -> Tensor:
    """`mmr` for several λ: (L, k) int64, one row of picks per λ. The inputs are checked once.

    >>> alike = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> mmr_sweep(torch.tensor([1.0, 0.8, 0.1]), alike, 2, [0.5, 1.0]).tolist()
    [[0, 2], [0, 1]]
    """
    _check(similarity, k, importance)
    for value in lambdas:
        check_lambda(value)
    # λ and 1 - λ are rounded to float32 each, as torch and numpy do with Python numbers.
    relevance = importance * torch.tensor([[float(value)] for value in lambdas], device=importance.device)  # (L, N)
    penalty = torch.tensor([[1 - float(value)] for value in lambdas], device=importance.device)  # (L, 1)
    first = importance.argmax()
    if importance.device.type != "cpu":
        return device_loops.greedy_mmr(relevance, penalty, similarity, first, k)
    orders = np.empty((len(relevance), k), np.int64)
    rows = _rows(similarity)
    for scores, weight, order in zip(relevance.detach().numpy(), penalty.numpy()[:, 0], orders, strict=True):
        kernels.greedy_mmr(scores, np.full_like(scores, weight), rows, int(first), order)
    return torch.from_numpy(orders)


def farthest_point(
    similarity: Tensor, k: int, first: int | Tensor | None = None, among: Tensor | None = None
) -> Tensor:
    """Max-min diversity: pick argmax over i of min_{s chosen} (1 - similarity_{i,s}).

    similarity (N, N) float32, symmetric. first: index of the first pick; None takes DivPrune's (arXiv 2503.02175),
    the token whose nearest neighbour is farthest away. among: (N,) bool, the pool to pick from (None = all); it holds
    `first` and at least k tokens. Returns (k,) int64 in pick order. A chosen token is never picked again, however
    many duplicates it has. Similarities are compared, not 1 - similarity, which would round small differences away.

    >>> alike = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> farthest_point(alike, 2).tolist()
    [2, 0]
    >>> farthest_point(alike, 2, first=1).tolist()
    [1, 2]
    """
    _check(similarity, k)
    n = len(similarity)
    if first is None:
        first = _most_isolated(similarity)
    relevance = pool_relevance(n, k, first, among).to(similarity.device)
    if similarity.device.type != "cpu":
        start = torch.as_tensor(first, device=similarity.device)
        return device_loops.greedy_mmr(relevance[None], relevance.new_ones(1, 1), similarity, start, k)[0]
    order = np.empty(k, np.int64)
    kernels.greedy_mmr(relevance.numpy(), np.ones(n, np.float32), _rows(similarity), int(first), order)
    return torch.from_numpy(order)


def weighted_farthest_point(importance: Tensor, similarity: Tensor, k: int) -> Tensor:
    """Pick argmax importance_i · (1 - max_{s chosen} similarity_{i,s}); the first is the most important token.

    importance (N,) float32 >= 0, used as given; similarity (N, N) float32, symmetric. Returns (k,) int64 in pick order.
    Raises ValueError as `mmr` does, and for a negative importance.

    >>> alike = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> weighted_farthest_point(torch.tensor([1.0, 0.8, 0.1]), alike, 3).tolist()
    [0, 2, 1]
    """
    _check(similarity, k, importance)
    check_not_negative("importance", importance)
    # The same loop as `mmr`, importance_i - penalty_i · max, with a penalty of each token's own.
    first = importance.argmax()
    if importance.device.type != "cpu":
        return device_loops.greedy_mmr(importance[None].clone(), importance[None], similarity, first, k)[0]
    order = np.empty(k, np.int64)
    weight = importance.detach().contiguous().numpy()
    kernels.greedy_mmr(weight.copy(), weight, _rows(similarity), int(first), order)
    return torch.from_numpy(order)


def dpp(quality: Tensor, similarity: Tensor, k: int) -> Tensor:
    """Greedy MAP of the determinantal point process with kernel diag(q)·similarity·diag(q).

    Chen et al. 2018, arXiv 1709.05135. quality (N,) float32 >= 0; similarity (N, N) float32, positive semi-definite,
    symmetric. Returns (k,) int64 in pick order.
    The gain of token i is q_i² r_i, where r_i is what is left of its unit length after projecting out the chosen: the
    incremental Cholesky of `similarity` in float64. Where no gain is left (more tokens than dimensions, duplicates,
    zero features or quality) the rest follows by quality. Raises ValueError as `mmr` does, and for a negative quality.

    >>> alike = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> dpp(torch.tensor([1.0, 0.9, 0.8]), alike, 2).tolist()
    [0, 2]
    """
    _check(similarity, k, quality)
    check_not_negative("quality", quality)
    if quality.device.type != "cpu":
        return device_loops.greedy_dpp(quality, similarity, k)
    order = np.empty(k, np.int64)
    set_kernels.greedy_dpp(quality.detach().double().numpy(), _rows(similarity), order)
    return torch.from_numpy(order)


def coverage(cover: Tensor, k: int, weight: Tensor | None = None) -> Tensor:
    """Greedy facility location: pick argmax weight_i · sum_r max(0, cover_{i,r} - covered_r), covered: max over chosen.

    cover (N, R) float32: how well token i covers item r; what is below 0 covers nothing. weight (N,) float32 >= 0,
    None = all 1. Returns (k,) int64 in pick order. Where nothing gains any more, the rest follows by its gain alone,
    as for the first pick. Sums are float64. Costs O(K N R) at worst; on the CPU it evaluates lazily, which finds the
    same picks, mostly after a few rows each. Raises ValueError for wrong shapes, a k outside 1..N, values that are not
    finite or a negative weight.

    >>> coverage(torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.8, 0.0], [0.0, 0.0, 0.5]]), 2).tolist()
    [1, 2]
    """
    n = len(cover)
    if cover.ndim != 2 or cover.dtype != torch.float32 or not all_finite(cover):
        raise ValueError(f"cover must be finite (N, R) float32, not {tuple(cover.shape)} {cover.dtype}")
    check_budget(k, n)
    weight = torch.ones(n, device=cover.device) if weight is None else weight
    check_values("weight", weight, n)
    check_not_negative("weight", weight)
    if cover.device.type != "cpu":
        return device_loops.greedy_coverage(cover, weight, k)
    order = np.empty(k, np.int64)
    set_kernels.greedy_coverage(_rows(cover), weight.detach().double().numpy(), order)
    return torch.from_numpy(order)


def deduplicate(ranking: Tensor, similarity: Tensor, k: int, step: int = 8) -> Tensor:
    """Drop the most repeated of a ranked list, up to `step` at a time, until k are left: VisPruner, arXiv 2412.01818.

    Each round splits the list into its even and odd places and drops the even ones most similar to any odd one; the
    next list is the other even ones by falling similarity, then the odd ones. ranking (R,) int64, best first;
    similarity (N, N) float32, symmetric; 0 <= k <= R. Returns (k,) int64 in the order of `ranking`.

    >>> alike = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> deduplicate(torch.tensor([0, 1, 2]), alike, 2).tolist()
    [1, 2]
    """
    if k == 0:
        return ranking[:0]
    left = ranking
    while len(left) > k:
        even, odd = left[::2], left[1::2]
        by_similarity = _nearest_of(similarity, odd)[even].argsort(descending=True, stable=True)
        left = torch.cat([even[by_similarity[min(step, len(left) - k) :]], odd])
    kept = torch.zeros(len(similarity), dtype=torch.bool, device=ranking.device)
    kept[left] = True
    return ranking[kept[ranking]]


def least_similar(similarity: Tensor, k: int, first: int | Tensor) -> Tensor:
    """Max-sum diversity: from `first` on, pick argmin over i not chosen of sum_{s chosen} similarity_{i,s}.

    similarity (N, N) float32, symmetric. Returns (k,) int64 in pick order. The running sums are float64, so that their
    rounding decides no pick. A run to k = N holds the picks of every smaller k.

    >>> alike = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> least_similar(alike, 3, first=0).tolist()
    [0, 2, 1]
    """
    _check(similarity, k)
    if similarity.device.type != "cpu":
        return device_loops.greedy_least_similar(similarity, torch.as_tensor(first, device=similarity.device), k)
    order = np.empty(k, np.int64)
    kernels.greedy_least_similar(_rows(similarity), int(first), order)
    return torch.from_numpy(order)


def thin_out(ranked: Tensor, similarity: Tensor, reach: Tensor, k: int) -> Tensor:
    """Walk down a ranking; each token that is taken strikes out all that lie closer to it than its reach.

    ranked (N,) int64, the tokens from best to worst; similarity (N, N) float32; reach (N,) float32 by place in the
    ranking: the token at place r strikes out every i with 1 - similarity_{i,r} < reach_r. Returns (k,) int64 in pick
    order; when the walk ends before k are taken, the struck out follow by their rank.

    >>> alike = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> thin_out(torch.tensor([0, 1, 2]), alike, torch.tensor([0.5, 0.5, 0.5]), 2).tolist()
    [0, 2]
    """
    _check(similarity, k)
    check_values("reach", reach, len(similarity))
    if similarity.device.type != "cpu":
        return device_loops.thin_out(ranked, similarity, reach, k)
    order = np.empty(k, np.int64)
    kernels.thin_out(ranked.contiguous().numpy(), _rows(similarity), reach.detach().contiguous().numpy(), order)
    return torch.from_numpy(order)


def warm_up() -> None:
    """Compile the kernels, or load them from their cache, so that the first user does not wait for it."""
    from pruning.ops import lazy, rows  # which stand on this module

    similarity = torch.eye(2)
    lazy.farthest_point(similarity, 2)
    lazy.thin_out(torch.arange(2), similarity, torch.ones(2), 2)
    rows.dpp(torch.ones(2), similarity, 2)
    rows.least_similar(similarity, 2, 0)
    rows.deduplicate(similarity, torch.arange(2), 1)
    order = mmr(torch.ones(2), similarity, 2, 0.5).numpy()
    dpp(torch.ones(2), similarity, 2)
    farthest_point(similarity, 2)
    coverage(similarity, 2)
    deduplicate(torch.arange(2), similarity, 1)
    least_similar(similarity, 2, 0)
    thin_out(torch.arange(2), similarity, torch.ones(2), 2)
    kernels.hopkins_prefixes(_rows(similarity), order, order + 1, order, np.empty(2))


def _most_isolated(similarity: Tensor) -> int | Tensor:
    if similarity.device.type == "cpu":
        return int(kernels.most_isolated(_rows(similarity)))
    others = similarity.clone()
    others.fill_diagonal_(-torch.inf)
    return others.max(dim=1).values.argmin()


def _nearest_of(similarity: Tensor, rows: Tensor) -> Tensor:
    """(N,): each token's largest similarity to the tokens `rows` (R,)."""
    if similarity.device.type != "cpu":
        return similarity[rows].amax(dim=0)
    nearest = np.empty(len(similarity), np.float32)
    kernels.nearest_of(_rows(similarity), rows.contiguous().numpy(), nearest)
    return torch.from_numpy(nearest)


def _rows(similarity: Tensor) -> NDArray[np.float32]:
    return similarity.detach().contiguous().numpy()


def _check(similarity: Tensor, k: int, values: Tensor | None = None) -> None:
    n = len(similarity)
    if similarity.shape != (n, n) or similarity.dtype != torch.float32:
        raise ValueError(f"similarity must be (N, N) float32, not {tuple(similarity.shape)} {similarity.dtype}")
    check_budget(k, n)
    if values is not None:
        check_values("importance", values, n)
