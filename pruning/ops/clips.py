"""Rules of clips: how frames differ, where scenes change, and clusters of tokens. Pure functions of tensors.

Nothing here compares each token of a clip with each other: only frames with their neighbours, and the tokens of one
frame, or of one cluster, among themselves. Inputs stay untouched, ties go to the lower index.

    T  frames    P  tokens of each    D  their width    n  points that are clustered
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pruning.ops.merging import group_mean
from pruning.ops.quotas import share_out
from pruning.ops.scaling import unit_rows


def neighbour_cosine(frames: Tensor) -> Tensor:
    """(T, P, D) -> (T - 1, P) float32, cosine of each token with the one at its place in the frame before."""
    before, found = unit_rows(frames[0]), [frames.new_empty(0, frames.shape[1])]
    for frame in frames[1:]:  # one by one: no second copy of a long clip
        unit = unit_rows(frame)
        found.append((unit * before).sum(dim=-1)[None])
        before = unit
    return torch.cat(found)


def frame_novelty(frames: Tensor) -> Tensor:
    """(T, P, D) -> (T,) float32: the mean over places of 1 - cosine with the frame before, >= 0; 1 for the first.

    >>> frame_novelty(torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])).tolist()
    [1.0, 0.0, 1.0]
    """
    return torch.cat([frames.new_ones(1), (1 - neighbour_cosine(frames).mean(dim=1)).clamp(min=0)])


def segments(frames: Tensor, least: float, at_least: int) -> list[tuple[int, int]]:
    """(T, P, D) -> [start, stop) of runs of frames that look alike.

    A cut lies where the cosine of the means of two frames in turn is below `least`; where that gives fewer than
    `at_least` runs, also between those that are least alike. At most T runs.
    """
    means = unit_rows(frames.mean(dim=1))
    alike = (means[1:] * means[:-1]).sum(dim=-1)  # (T - 1,)
    ranked = alike.sort(stable=True).indices.tolist()
    below = int((alike < least).sum())
    cuts = sorted(cut + 1 for cut in ranked[: max(below, min(at_least, len(frames)) - 1)])
    return list(zip([0, *cuts], [*cuts, len(frames)], strict=True))


def density_peaks(points: Tensor, clusters: int, neighbours: int) -> tuple[Tensor, Tensor]:
    """Clusters by DPC-kNN: (n, D) -> (c,) int64 centres, most outstanding first, and (n,) int64 the place in them of
    the centre that each point joins.

    d = Euclid / √D;  ρ_i = exp(-mean of d² to its k nearest, itself included);  δ_i = the smallest d to a point of
    higher ρ, for the densest the largest d of all;  centres: the highest ρ·δ. Each other point joins its nearest
    centre. Of equally dense points the one of the lower index counts as denser. k and c are at most n.
    """
    n = len(points)
    points = points.float()
    scale = points.abs().max()
    points = points / torch.where(scale > 0, scale, torch.ones_like(scale))  # squares stay finite
    points = points - points.mean(dim=0)  # by a product, which is 20 times as fast: centred, it loses few digits
    length = (points**2).sum(dim=1)
    squares = (length[:, None] + length[None, :] - 2 * points @ points.T).clamp(min=0).fill_diagonal_(0)
    apart = squares.sqrt() / points.shape[1] ** 0.5
    near = (apart * scale).double().clamp(max=1e150)
    density = torch.exp(-(near.topk(min(neighbours, n), dim=1, largest=False).values ** 2).mean(dim=1))
    rank = density.sort(descending=True, stable=True).indices.argsort()
    denser = rank[None, :] < rank[:, None]  # (n, n): the column's point is denser than the row's
    delta = torch.where(denser, apart, torch.inf).amin(dim=1)
    delta = torch.where(rank == 0, apart.max(), delta)
    centres = (density * delta).sort(descending=True, stable=True).indices[: min(clusters, n)]
    home = apart[:, centres].argmin(dim=1)
    home[centres] = torch.arange(len(centres), device=points.device)
    return centres, home


def best_before(frames: Tensor, at: int, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the free tokens of frame `at`, the most similar free one of the frame before.

    frames: (T, P, D). free: (T·P,) bool. Returns (m,) int64 tokens, (m,) int64 which token each is most
    like, and (m,) float32 their cosine; none where the frame before has no free token.
    """
    each = frames.shape[1]
    here, there = (free[frame * each : (frame + 1) * each].nonzero()[:, 0] for frame in (at, at - 1))
    if not len(there):
        return here[:0], here[:0], frames[0, :0, 0].float()
    alike, best = (unit_rows(frames[at, here]) @ unit_rows(frames[at - 1, there]).T).max(dim=1)
    return at * each + here, (at - 1) * each + there[best], alike


def still_places(
    frames: Tensor, windows: Sequence[tuple[int, int]], least: float, most: int, neighbours: Tensor | None = None
) -> list[Tensor]:
    """For each window [start, stop) (P,) bool: the places that stand still in it, frames (T, P, D).

    A place does whose mean cosine over all pairs of the window's frames is above `least`; with `neighbours` (T - 1, P),
    whose lowest cosine of a frame and the next is. A window of one frame has none. At most `most` tokens are saved,
    each place saving one less than its window has frames: those of the highest cosine count first.
    """
    marks = [torch.zeros(frames.shape[1], dtype=torch.bool, device=frames.device) for _ in windows]
    found = list[tuple[float, int, int]]()
    for number, (start, stop) in enumerate(windows):
        length = stop - start
        if length < 2:
            continue
        if neighbours is None:
            unit = unit_rows(frames[start:stop].flatten(0, 1)).view(length, *frames.shape[1:])
            total = unit.sum(dim=0)
            own = (unit**2).sum(dim=(0, 2))
            alike = ((total**2).sum(dim=1) - own) / (length * (length - 1))
        else:
            alike = neighbours[start : stop - 1].amin(dim=0)
        found += [(-value, number, place) for place, value in enumerate(alike.tolist()) if value > least]
    for _, number, place in sorted(found):
        saved = windows[number][1] - windows[number][0] - 1
        if saved <= most:
            marks[number][place] = True
            most -= saved
    return marks


Merge = Callable[[Tensor, Tensor, int, bool], tuple[Tensor, Tensor, Tensor]]
"""(values (m, D), tokens (m,), k, whether they move) -> (k,) which of them stay, (m,) the place of what each goes into,
-1 = dropped, and (k, D) what they become."""


def clustered_sets(
    frames: Tensor, windows: Sequence[tuple[int, int]], still: Sequence[Tensor], k: int, merge: Merge
) -> tuple[Tensor, Tensor, Tensor]:
    """k tokens of the sets that windows consist of: the places that stand still, each its mean over the window at the
    first frame, and what moves in each frame. Every set is merged to its share of k, by its number of tokens.

    Returns (k,) int64 tokens, (T·P,) int64 which of them each token goes into, -1 = dropped, and (k, D) their rows.
    """
    each, flat = frames.shape[1], frames.flatten(0, 1)
    sets = list[tuple[Tensor, Tensor, bool]]()  # tokens, their values, whether they move
    follows = torch.arange(len(flat), device=frames.device)  # the token that stands for each
    for (start, stop), mark in zip(windows, still, strict=True):
        places, moving = mark.nonzero()[:, 0], (~mark).nonzero()[:, 0]
        if len(places):
            sets.append((start * each + places, frames[start:stop, places].mean(dim=0), False))
            for at in range(start + 1, stop):
                follows[at * each + places] = start * each + places
        sets += [(at * each + moving, frames[at, moving], True) for at in range(start, stop) if len(moving)]
    sizes = torch.tensor([len(tokens) for tokens, _, _ in sets])
    quota = share_out(sizes * k / sizes.sum(), sizes, k).tolist()
    order, rows = list[Tensor](), list[Tensor]()
    into = torch.full((len(flat),), -1, device=frames.device)
    for (tokens, values, moving_set), count in zip(sets, quota, strict=True):
        if count:
            stay, home, made = merge(values, tokens, count, moving_set)
            order.append(tokens[stay])
            rows.append(made)
            into[tokens] = torch.where(home < 0, -1, tokens[stay][home.clamp(min=0)])
    return torch.cat(order), into[follows], torch.cat(rows)


def weighed(centres: Tensor, members: Tensor, member: Tensor, own: float, *, few: bool) -> Tensor:
    """β·centre + (1 - β)·mean of its members: centres (c, D), members (m, D), member (m,) int64 which centre -> (c, D).

    β = own, with `few` at least 1 / (members + 1); a centre without members stays as it is.
    """
    count = torch.bincount(member, minlength=len(centres))
    weight = torch.maximum(torch.full_like(centres[:, 0], own), 1 / (count + 1)) if few else own
    weight = torch.where(count > 0, weight, 1.0)[:, None]
    return weight * centres + (1 - weight) * group_mean(members, member, len(centres))
