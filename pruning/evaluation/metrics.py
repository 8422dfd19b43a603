"""What is measured of a kept set and of the answer it leads to. Formulas: IDPruner, arXiv 2602.13315.

Importance retention and Hopkins span the paper's plane; fidelity and IoU compare two answers or two sets. Whether two
answers can be compared, and are the same, is for `pruning.evaluation.verdict` to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pruning.budget import check_budget
from pruning.ops import kernels
from pruning.ops.scaling import minmax


def importance_retention(importance: Tensor, order: Tensor) -> float:
    """I(S) = sum over S of w / sum over all of w, with w the min-max normalised importance.

    importance (N,) on any scale; order (K,) int64, the kept tokens in any order. Constant importance gives K / N.
    Raises ValueError for values that are not finite.
    """
    return float(importance_retention_prefixes(importance, order, [len(order)])[0])


def importance_retention_prefixes(importance: Tensor, order: Tensor, budgets: Sequence[int]) -> Tensor:
    """`importance_retention` of the first k picks for every k in `budgets`: (B,) float64 on the CPU."""
    if not bool(torch.isfinite(importance).all()):
        raise ValueError(f"importance {tuple(importance.shape)} holds NaN or infinite values")
    weights = minmax(importance).cpu().double()
    if not bool(weights.any()):
        weights = torch.ones_like(weights)
    kept = weights[order.cpu()].cumsum(0)
    # A share of the whole by definition; the sums may differ in the last bit.
    return (kept[_budgets(budgets, len(order)) - 1] / weights.sum()).clamp(max=1)


def hopkins(similarity: Tensor, order: Tensor, seed: int = 0) -> float:
    """The Hopkins statistic of the kept set; near 0 = spread out, about 0.5 = random, near 1 = clustered.

    H(S) = Σ_{r in R} d(r, S) / (Σ_{r in R} d(r, S) + Σ_{v in S} d(v, S minus v)); d = 1 - cosine to the nearest
    neighbour, and 0 for an r that is itself in S. R: K tokens drawn without replacement from all N (the paper leaves
    the drawing open); the first K of one seeded permutation, so curves over budgets are smooth and repeatable.
    similarity (N, N) float32; order (K,) int64. NaN where H is undefined: K = 1, or all distances 0.
    """
    return float(hopkins_prefixes(similarity, order, [len(order)], seed)[0])


def hopkins_prefixes(similarity: Tensor, order: Tensor, budgets: Sequence[int], seed: int = 0) -> Tensor:
    """`hopkins` of the first k picks for every k in `budgets`, in one pass over `order`: (B,) float64 on the CPU."""
    n = len(similarity)
    wanted = _budgets(budgets, len(order)).numpy()
    ascending = np.argsort(wanted, kind="stable")
    # numpy's generator, not torch's: the method `random` draws with torch, and with equal
    # seeds R would be its own picks.
    drawn = np.random.default_rng(seed).permutation(n)
    found = np.empty(len(wanted))
    rows = similarity.detach().cpu().contiguous().numpy()
    kernels.hopkins_prefixes(rows, order.cpu().contiguous().numpy(), wanted[ascending], drawn, found)
    result = np.empty_like(found)
    result[ascending] = found
    return torch.from_numpy(result)


def fidelity(logp_full: Tensor, logp_pruned: Tensor) -> float:
    """exp(-mean_t KL(p_full || p_pruned)) in 0..1; 1 = the pruned model says the same with the same confidence.

    Both (T, V), log-probabilities at the T tokens of the full-token answer, teacher-forced. An answer without words has
    no fidelity, though its end token gives a number here: ask `Verdict.comparable` first. Raises ValueError for other
    shapes, T = 0 or NaN.
    """
    if logp_full.shape != logp_pruned.shape or logp_full.ndim != 2 or not len(logp_full):
        raise ValueError(
            "fidelity compares two (T, V) tensors with T >= 1, "
            f"not {tuple(logp_full.shape)} and {tuple(logp_pruned.shape)}"
        )
    full, pruned = logp_full.cpu().double(), logp_pruned.cpu().double()
    # 0 · log 0 = 0: a word that the full model excludes adds nothing, whatever the pruned one thinks of it.
    terms = torch.where(full.isneginf(), 0.0, full.exp() * (full - pruned))
    divergence = terms.sum(dim=1).mean()
    if bool(divergence.isnan()):
        raise ValueError(f"fidelity: the log-probabilities {tuple(logp_full.shape)} hold NaN")
    return float(torch.exp(-divergence.clamp(min=0)))


def token_probabilities(logp: Tensor, ids: Sequence[int]) -> Tensor:
    """(T,) float32 on the CPU, 0..1: the probability that each of the answer's tokens `ids` was given.

    logp (T, V): log-probabilities, teacher-forced on that answer. Raises ValueError where the lengths differ.
    """
    if logp.ndim != 2 or len(ids) != len(logp):
        raise ValueError(f"{len(ids)} answer tokens need a ({len(ids)}, V) tensor, not {tuple(logp.shape)}")
    which = torch.tensor(ids, dtype=torch.int64)[:, None]
    return logp.float().cpu().gather(1, which)[:, 0].exp()


def token_losses(logp_full: Tensor, logp_pruned: Tensor, ids: Sequence[int]) -> Tensor:
    """(T,) float32: how much of its probability each token of the full-token answer lost, p_full - p_pruned, in -1..1.

    Both (T, V) log-probabilities, teacher-forced on the answer `ids` (T,). Negative: the pruned model is surer of it.
    """
    if logp_full.shape != logp_pruned.shape:
        raise ValueError(f"losses need two tensors of one shape, not {logp_full.shape} and {logp_pruned.shape}")
    return token_probabilities(logp_full, ids) - token_probabilities(logp_pruned, ids)


def iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two kept sets given as index tensors (K,) in any order; two empty sets agree: 1."""
    first, second = set(a.tolist()), set(b.tolist())
    return len(first & second) / len(first | second) if first or second else 1.0


def _budgets(budgets: Sequence[int], longest: int) -> Tensor:
    return torch.tensor([check_budget(budget, longest) for budget in budgets], dtype=torch.int64)
