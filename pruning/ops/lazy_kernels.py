"""Compiled loops of `ops.lazy` on numpy arrays: greedy rules over the closest chosen token that know no N×N matrix.

A cosine is bracketed by a product of 8-bit codes, which reads a quarter of the bytes, and taken in full only where the
bracket leaves the pick open. With u_i the unit rows, m any vector and v_i = u_i - m:

    u_i·u_j = v_i·v_j + c_i + c_j,          c_i = u_i·m - m·m / 2
    v_i = s_i q_i + r_i,                    q_i whole numbers of 8 bits, r_i what they leave
    |v_i·v_j - s_i s_j q_i·q_j|  =  |r_i·v_j + s_i q_i·r_j|  <=  |r_i| l_j + l_i |r_j|,    l_i >= |v_i|, |s_i q_i|

The product of codes is exact: whole numbers. SLACK on either side is above all rounding of the rest, since a cosine is
at most 1. In full a cosine is the product in float64, rounded once to float32: a function of the two rows alone, so
that duplicates tie exactly.

    N  tokens    D  their width    K  picks
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pruning.ops.kernels import LANES, compiled, compiled_in_any_order

SLACK = np.float32(1e-6)
LEAST = 1e-30  # what is smaller is left to the residue: its inverse would be infinite
ROUNDED = 1.001  # lengths are summed in float32
NEVER = np.float32(-1 - SLACK)  # below every cosine
AT_ONCE = 8  # picks that a token is compared with before it is asked whether it still leads
ROOM = 16  # picks in doubt that a token remembers


class Coded(NamedTuple):
    """Rows with what brackets their cosines: see `encode`."""

    rows: NDArray[np.float32]  # (N, D)
    inverse: NDArray[np.float64]  # (N,) 1 / |row|
    codes: NDArray[np.int8]  # (N, D) q
    scale: NDArray[np.float64]  # (N,) s
    offset: NDArray[np.float64]  # (N,) c
    length: NDArray[np.float64]  # (N,) l
    residue: NDArray[np.float64]  # (N,) |r|


@compiled_in_any_order
def dot(a, b):  # type: ignore[no-untyped-def]
    """Of two rows (D,) float32, in float64. The sum may be taken in any order, but always in the same."""
    total = 0.0
    for k in range(a.shape[0]):
        total += np.float64(a[k]) * np.float64(b[k])
    return total


@compiled
def dot_codes(a, b):  # type: ignore[no-untyped-def]
    """Of two rows (D,) int8, exactly: `encode` sees to it that 32 bits hold it."""
    total = np.int32(0)
    for k in range(a.shape[0]):
        total = np.int32(total + np.int32(np.int32(a[k]) * np.int32(b[k])))
    return total


@compiled
def cosine(x, i, j):  # type: ignore[no-untyped-def]
    """Of tokens i and j of a `Coded`, in full."""
    return np.float32(dot(x.rows[i], x.rows[j]) * (x.inverse[i] * x.inverse[j]))


@compiled
def bracket(x, i, codes, j):  # type: ignore[no-untyped-def]
    """What the cosine of tokens i and j of a `Coded` lies between, (low, high) float32. codes (D,): those of j."""
    near = dot_codes(x.codes[i], codes) * (x.scale[i] * x.scale[j]) + (x.offset[i] + x.offset[j])
    off = x.residue[i] * x.length[j] + x.length[i] * x.residue[j] + SLACK
    return np.float32(near - off), np.float32(near + off)


@compiled_in_any_order
def lengths_and_mean(rows, inverse, mean):  # type: ignore[no-untyped-def]
    """Fill `inverse` (N,) float64 with 1 / |row|, 0 for a row of zeros, and `mean` (D,) float64 with the mean of the
    rows at unit length. rows (N, D) float32.
    """
    n, d = rows.shape
    mean[:] = 0
    for i in range(n):
        square = dot(rows[i], rows[i])
        inverse[i] = 1 / np.sqrt(square) if square > 0 else 0.0
        share = inverse[i] / n
        for k in range(d):
            mean[k] += rows[i, k] * share


@compiled_in_any_order
def encode(rows, inverse, centre, most, codes, scale, offset, length, residue):  # type: ignore[no-untyped-def]
    """Fill codes (N, D) int8 with q, scale (N,) with s, offset with c, length with l, residue with |r|; all float64.

    rows (N, D) float32; inverse (N,) of their lengths; centre (D,) float64 m. most: the largest code, D·most² < 2^31.
    """
    n, d = rows.shape
    v = np.empty(d, np.float32)
    middle = 0.0
    for k in range(d):
        middle += centre[k] * centre[k]
    for i in range(n):
        largest, along = np.float32(0), 0.0
        for k in range(d):
            u = rows[i, k] * inverse[i]
            along += u * centre[k]
            v[k] = np.float32(u - centre[k])
            largest = max(largest, abs(v[k]))
        unit = np.float32(largest / most) if largest > LEAST else np.float32(0)
        per_unit = np.float32(1 / unit) if unit > 0 else np.float32(0)
        whole, coded, left = np.float32(0), np.float32(0), np.float32(0)
        for k in range(d):
            code = np.rint(v[k] * per_unit)
            codes[i, k] = np.int8(code)
            held = code * unit
            rest = v[k] - held
            whole += v[k] * v[k]
            coded += held * held
            left += rest * rest
        scale[i] = unit
        offset[i] = along - middle / 2
        length[i] = np.sqrt(max(whole, coded)) * ROUNDED
        residue[i] = np.sqrt(left) * ROUNDED


@compiled
def first_of_block(bound, block):  # type: ignore[no-untyped-def]
    """Of a block of LANES tokens the one of the highest bound; ties: lower i."""
    start = block * LANES
    best = start
    for i in range(start + 1, min(start + LANES, bound.shape[0])):
        if bound[i] > bound[best]:
            best = i
    return best


@compiled
def leaders(bound, leader):  # type: ignore[no-untyped-def]
    """The token of the highest bound and the next one, of at least two; ties: lower i.

    leader (blocks,): `first_of_block` of each.
    """
    block = 0
    for b in range(1, leader.shape[0]):
        if bound[leader[b]] > bound[leader[block]]:
            block = b
    best = leader[block]
    second = -1
    for b in range(leader.shape[0]):
        if b == block:
            for i in range(block * LANES, min((block + 1) * LANES, bound.shape[0])):
                if i != best and (second < 0 or bound[i] > bound[second]):
                    second = i
        elif second < 0 or bound[leader[b]] > bound[second]:
            second = leader[b]
    return best, second


@compiled
def ahead(score, i, other, j):  # type: ignore[no-untyped-def]
    """Whether token i with its score is picked before token j with another."""
    return score > other or (score == other and i < j)


@compiled
def in_full(x, token, order, low, full, doubts, doubt, most):  # type: ignore[no-untyped-def]
    """Compare a token in full with the picks in doubt: `low` and `full` are then the cosine of its closest pick."""
    for at in range(doubts[token]):
        if most[token, at] > max(low[token], full[token]):
            full[token] = max(full[token], cosine(x, token, order[doubt[token, at]]))
    low[token] = full[token]
    doubts[token] = 0


@compiled
def highest(full, doubts, most):  # type: ignore[no-untyped-def]
    """What the cosine of a token's closest pick is at most."""
    for at in range(doubts):
        full = max(full, most[at])
    return full


@compiled
def greedy_mmr(x, relevance, penalty, first, order):  # type: ignore[no-untyped-def]
    """Fill `order` (K,) with `kernels.greedy_mmr`'s picks, the similarity being `cosine`; ties: lower i.

    x: a `Coded`; relevance (N,) float32 is overwritten; penalty (N,) float32 >= 0. first: index of the first pick.

    The closest chosen token only comes closer, so a score that was right once bounds all later ones. Only the token of
    the highest bound is compared with the picks that came since its last look, and leaves off as soon as it falls
    behind the next bound. Where the two at the top are up to date and their brackets overlap, both are taken in full.
    """
    n, k = relevance.shape[0], order.shape[0]
    low, full = np.full(n, NEVER, np.float32), np.full(n, NEVER, np.float32)
    doubts, doubt, most = np.zeros(n, np.int64), np.empty((n, ROOM), np.int32), np.empty((n, ROOM), np.float32)
    seen = np.zeros(n, np.int64)  # picks that a token was compared with
    bound = relevance - penalty * low
    kept = np.empty((k, x.codes.shape[1]), np.int8)  # side by side, as they are read
    leader = np.empty((n + LANES - 1) // LANES, np.int64)
    for b in range(leader.shape[0]):
        leader[b] = first_of_block(bound, b)
    pick = first
    for step in range(k):
        while step:
            best, second = leaders(bound, leader)
            look, goal, rival = best, bound[second], second
            if seen[best] == step:
                least = relevance[best] - penalty[best] * highest(full[best], doubts[best], most[best])
                if ahead(least, best, bound[second], second):
                    pick = best
                    break
                look, goal, rival = second, least, best
            if seen[look] == step:
                look = best if doubts[best] else second
                in_full(x, look, order, low, full, doubts, doubt, most)
                bound[look] = relevance[look] - penalty[look] * low[look]
            while seen[look] < step:
                stop = min(step, seen[look] + AT_ONCE)
                for t in range(seen[look], stop):
                    at_least, at_most = bracket(x, look, kept[t], order[t])
                    low[look] = max(low[look], at_least)
                    if at_most > max(low[look], full[look]):
                        if doubts[look] == ROOM:
                            in_full(x, look, order, low, full, doubts, doubt, most)
                        doubt[look, doubts[look]], most[look, doubts[look]] = t, at_most
                        doubts[look] += 1
                seen[look] = stop
                bound[look] = relevance[look] - penalty[look] * low[look]
                if ahead(goal, rival, bound[look], look):
                    break
            leader[look // LANES] = first_of_block(bound, look // LANES)
        order[step] = pick
        kept[step] = x.codes[pick]
        relevance[pick] = bound[pick] = -np.inf
        leader[pick // LANES] = first_of_block(bound, pick // LANES)


@compiled
def lonelier(nearest, i, other, j):  # type: ignore[no-untyped-def]
    return nearest < other or (nearest == other and i < j)


@compiled
def most_isolated(x, turn):  # type: ignore[no-untyped-def]
    """`kernels.most_isolated` of a `Coded`. turn (N,) int64: the tokens, the likely ones first.

    A token is out as soon as another is so close to it that one before it is more alone; its neighbours on the raster
    are asked first, from near to far.
    """
    n = turn.shape[0]
    isolated, least = n, np.float32(np.inf)
    for i in turn:
        nearest, away = NEVER, 1
        while away < n and lonelier(nearest, i, least, isolated):
            for j in (i - away, i + away):
                if 0 <= j < n and bracket(x, i, x.codes[j], j)[1] >= least:
                    nearest = max(nearest, cosine(x, i, j))
            away += 1
        if not lonelier(nearest, i, least, isolated):
            continue
        for j in range(n):
            if j != i and bracket(x, i, x.codes[j], j)[1] > nearest:
                nearest = max(nearest, cosine(x, i, j))
        isolated, least = i, nearest
    return isolated
