"""Brute-force answers, written differently from the code they check: numpy, loops over sets, no running state."""

from __future__ import annotations

import itertools
import math

import numpy as np


def cosine(features):
    """(N, N) float64; a zero vector is like nothing, itself included."""
    rows = np.asarray(features, np.float64)
    lengths = [math.sqrt(float(row @ row)) for row in rows]
    return np.array(
        [
            [float(a @ b) / (x * y) if x and y else 0.0 for b, y in zip(rows, lengths, strict=True)]
            for a, x in zip(rows, lengths, strict=True)
        ]
    )


def soft_topk(scores, k):
    """(N,) float64 sigmoid(s + t) with the t that makes the sum k: Newton's method in place of bisection."""
    s = np.asarray(scores, np.float64)
    t = -float(np.median(s))
    for _ in range(200):
        p = 1 / (1 + np.exp(-(s + t)))
        t += max(-1.0, min(1.0, (k - p.sum()) / (p * (1 - p)).sum()))
    return 1 / (1 + np.exp(-(s + t)))


def mmr(importance, similarity, k, mmr_lambda):
    """Every step scores every candidate against all chosen tokens afresh, in float32."""
    imp, sim = np.asarray(importance, np.float32), np.asarray(similarity, np.float32)
    lam, rest = np.float32(mmr_lambda), np.float32(1 - mmr_lambda)
    chosen = [max(range(len(imp)), key=lambda i: (imp[i], -i))]
    while len(chosen) < k:
        left = [i for i in range(len(imp)) if i not in chosen]
        scores = [lam * imp[i] - rest * max(sim[i, s] for s in chosen) for i in left]
        chosen.append(left[scores.index(max(scores))])
    return chosen


def farthest_point(similarity, k, first=None, pool=None):
    """Works on distances in float64."""
    distance = 1 - np.asarray(similarity, np.float64)
    n = len(distance)
    pool = range(n) if pool is None else pool
    if first is None:
        nearest = [min((distance[i, j] for j in range(n) if j != i), default=0.0) for i in range(n)]
        first = nearest.index(max(nearest))
    chosen = [first]
    while len(chosen) < k:
        left = [i for i in pool if i not in chosen]
        scores = [min(distance[i, s] for s in chosen) for i in left]
        chosen.append(left[scores.index(max(scores))])
    return chosen


def dpp(quality, similarity, k):
    """Each step computes the determinant of every candidate set."""
    kernel = np.asarray(quality, np.float64)[:, None] * np.asarray(similarity, np.float64) * np.asarray(quality)
    chosen: list[int] = []
    while len(chosen) < k:
        left = [i for i in range(len(kernel)) if i not in chosen]
        volumes = [np.linalg.det(kernel[np.ix_([*chosen, i], [*chosen, i])]) for i in left]
        chosen.append(left[volumes.index(max(volumes))])
    return chosen


def weighted_farthest_point(importance, similarity, k):
    """Works on distances in float64."""
    imp, distance = np.asarray(importance, np.float64), 1 - np.asarray(similarity, np.float64)
    chosen: list[int] = []
    while len(chosen) < k:
        left = [i for i in range(len(imp)) if i not in chosen]
        scores = [imp[i] * min((distance[i, s] for s in chosen), default=1.0) for i in left]
        chosen.append(left[scores.index(max(scores))])
    return chosen


def coverage(cover, k, weight=None):
    """The value of every candidate set, and of the set so far, afresh; exact sums."""
    cover = np.asarray(cover, np.float64)
    weight = np.ones(len(cover)) if weight is None else np.asarray(weight, np.float64)

    def value(chosen):
        return math.fsum(max([0.0, *(row[s] for s in chosen)]) for row in cover.T)

    chosen: list[int] = []
    while len(chosen) < k:
        left = [i for i in range(len(cover)) if i not in chosen]
        worth = [weight[i] * (value([*chosen, i]) - value(chosen)) for i in left]
        if max(worth) < 1e-9:
            worth = [weight[i] * value([i]) for i in left]
        chosen.append(left[worth.index(max(worth))])
    return chosen


def deduplicate(ranking, similarity, k, step=8):
    """Works on a list of indices; every round sorts the even places by how similar they are to the odd ones."""
    similarity = np.asarray(similarity)
    left = list(ranking)
    while k and len(left) > k:
        even = [index for place, index in enumerate(left) if place % 2 == 0]
        odd = [index for place, index in enumerate(left) if place % 2 == 1]
        even.sort(key=lambda i: -max(similarity[i, j] for j in odd))
        excess = len(left) - k
        for _ in range(min(step, excess, len(even))):
            even.pop(0)
        left = even + odd
    return [index for index in ranking if index in left[:k]]


def hopkins(similarity, kept, drawn):
    distance = 1 - np.asarray(similarity, np.float64)
    between = sum(0.0 if r in kept else min(distance[r, s] for s in kept) for r in drawn)
    within = sum(min(distance[v, s] for s in kept if s != v) for v in kept)
    return between / (between + within)


def non_dominated(points):
    """Indices of (importance retention, hopkins) pairs that no other pair beats."""
    beaten = {
        i
        for (i, (imp, hop)), (_, (imp2, hop2)) in itertools.product(enumerate(points), repeat=2)
        if imp2 >= imp and hop2 <= hop and (imp2 > imp or hop2 < hop)
    }
    return [i for i, (_, hop) in enumerate(points) if i not in beaten and not math.isnan(hop)]
