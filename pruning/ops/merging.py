"""How kept tokens absorb others: pure functions of tensors; nothing here knows models, tokens or registries.

Every function leaves its inputs untouched, breaks ties in favour of the lower index and never loops over tokens.

    N  tokens    D  their width    C  width of what is compared    G  groups    T  tokens that absorb
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.budget import check_budget
from pruning.ops.scaling import unit_rows


def attention_shares(attention: Tensor, pictures: Tensor) -> Tensor:
    """attention (N,), pictures (N,) int64 -> (N,) float32, the attention of one query: over a picture it sums to <= 1.

    Attention from CLS is that already. Attention received sums to the number of queries: divided by its sum it is the
    attention of a mean query. Sums of features weighted by attention would otherwise grow with the picture.
    """
    attention = attention.to(device=pictures.device, dtype=torch.float32)
    total = torch.zeros(len(attention), device=attention.device).index_add_(0, pictures, attention)
    return attention / total[pictures].clamp(min=1)


def group_mean(features: Tensor, group: Tensor, groups: int, weights: Tensor | None = None) -> Tensor:
    """features (N, D) float32, group (N,) int64 in -1..G-1, -1 = in none -> (G, D) float32, the mean of each group.

    weights: (N,) float32 >= 0 for a weighted mean; a group whose weights are all 0 has its plain mean. A group without
    members is 0.
    """
    slot = torch.where(group < 0, groups, group)
    weights = torch.ones_like(features[:, 0]) if weights is None else weights

    def total(values: Tensor) -> Tensor:
        return torch.zeros(groups + 1, device=values.device).index_add_(0, slot, values)[slot]

    weights = torch.where(total(weights) > 0, weights, torch.ones_like(weights))
    # Shares of 1 before the sum: weights of any scale keep the features' range.
    shares = weights / total(weights)
    sums = features.new_zeros(groups + 1, features.shape[1])
    return sums.index_add_(0, slot, shares[:, None] * features)[:groups]


def keep_and_group(ranked: Tensor, group: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Keep as many of the best tokens as leave room for one token per group of the others; k in all, exactly.

    ranked: (N,) int64, tokens from best to worst. group: (N,) int64 from 0. A group is represented by its best token
    that is not kept for itself. Where there are more groups than k, those with the best representatives are taken.
    Returns (k,) int64 tokens from best to worst, kept ones and representatives, and (N,) int64 which of them each token
    goes into: its own place where kept, -1 where its group was not taken.
    """
    n, groups = len(ranked), int(group.max()) + 1
    place = torch.arange(n, device=ranked.device)
    rank = torch.empty_like(ranked).scatter_(0, ranked, place)
    # With the m best kept, a group has others as long as its last rank is m or more. So m and the number of groups
    # with others grow together by 0 or 1 in each step of m, and never past k where the groups alone do not.
    last = ranked.new_zeros(groups).scatter_reduce(0, group, rank, "amax")
    size = place + 1 + groups - last.bincount(minlength=n).cumsum(0)  # (N,) for m = 1 .. N
    kept = rank < (size <= k).sum()
    best = ranked.new_full((groups,), n).scatter_reduce(0, group, rank.masked_fill(kept, n), "amin")
    order = ranked[(kept | (rank == best[group]))[ranked]][:k]
    into = torch.where(kept, place, ranked[best.clamp(max=n - 1)][group])
    return order, torch.where(torch.isin(into, order), into, -1)


def bipartite_merge(features: Tensor, k: int, matching: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Merge N tokens down to k in rounds of bipartite matching (ToMe, arXiv 2210.09461, as AIM repeats it).

    One round: the 1st, 3rd, ... token of the list are sources, the others targets. Each source finds its most similar
    target by cosine; the r most similar sources, r = half of the list or what is left to remove, go into their targets.
    A target becomes the plain mean of itself and this round's sources, however many tokens each stands for. The list
    goes on as the spared sources, most similar first, followed by the targets.
    features: (N, D) float32. matching: (N, C) float32, what is compared, merged in step; None = the features.
    Returns (k,) int64 the surviving tokens in the order of the list, (N,) int64 which of them absorbed each token, and
    (k, D) float32 what they became. Raises ValueError for a k outside 1..N.
    """
    check_budget(k, len(features))
    width = features.shape[1]
    values = features if matching is None else torch.cat([features, matching], dim=1)
    tokens = torch.arange(len(features), device=features.device)  # which token stands at each place of the list
    place = tokens  # (N,) where on the list each token has gone
    while (count := len(values)) > k:
        compared = unit_rows(values if matching is None else values[:, width:])
        similarity = compared[::2] @ compared[1::2].T
        target = similarity.argmax(dim=1)
        best = similarity.gather(1, target[:, None])[:, 0]
        ranked = best.sort(descending=True, stable=True).indices
        merged, spared = ranked.tensor_split([min(count // 2, count - k)])
        group = torch.full((count,), -1, device=features.device)
        group[1::2] = torch.arange(count // 2, device=features.device)
        group[2 * merged] = target[merged]
        moved = group + len(spared)
        moved[2 * spared] = torch.arange(len(spared), device=features.device)
        place = moved[place]
        values = torch.cat([values[2 * spared], group_mean(values, group, count // 2)])
        tokens = torch.cat([tokens[2 * spared], tokens[1::2]])
    return tokens, tokens[place], values[:, :width]


def absorb(
    features: Tensor,
    keys: Tensor,
    weights: Tensor,
    takers: Tensor,
    pool: Tensor,
    neighbours: int,
    bonus: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Each taker i becomes x_i + Σ_j weights_j x_j over the tokens j of the pool most like it; it is none of them.

    Likeness is the cosine of the keys, plus bonus_j. Tokens may be taken several times. The sum is not normalised.
    features (N, D), keys (N, C), weights (N,), bonus (N,) or None: float32. takers (T,) int64; pool (N,) bool.
    Returns (T, D) float32 and (N,) int64: of those who took a token, the one most like it; -1 where nobody did.
    """
    unit = unit_rows(keys)
    likeness = unit[takers] @ unit.T  # (T, N)
    if bonus is not None:
        likeness = likeness + bonus
    likeness[:, ~pool] = -torch.inf
    likeness.scatter_(1, takers[:, None], -torch.inf)
    reach = min(neighbours, len(features))
    least = likeness.topk(reach, dim=1).values[:, -1:]
    # torch.topk leaves open which of equal tokens it takes: all above the least, then the first of those that equal it.
    above, equal = likeness > least, likeness == least
    taken = above | (equal & (equal.cumsum(dim=1) <= reach - above.sum(dim=1, keepdim=True)))
    near = taken.nonzero()[:, 1].view(len(takers), reach)
    likeness = likeness.masked_fill(~taken, -torch.inf)
    share = weights[near] * (likeness.gather(1, near) > -torch.inf)  # a small pool leaves places empty
    rows = features[takers] + torch.nn.functional.embedding_bag(near, features, per_sample_weights=share, mode="sum")
    nearest = likeness.argmax(dim=0)
    return rows, torch.where(likeness.gather(0, nearest[None])[0] > -torch.inf, takers[nearest], -1)
