"""The attention-based methods by brute force: token by token, from the papers' formulas, in double precision.

Each takes (method, tokens, k) and gives the k picks in order.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import torch


def numbers(tokens, name):
    return np.asarray(tokens.signal(name), np.float64)


def best(scores, k, among=None):
    return sorted(range(len(scores)) if among is None else among, key=lambda i: -scores[i])[:k]


def cosine(a, b):
    return float(np.dot(a, b) / math.sqrt(np.dot(a, a) * np.dot(b, b)))


def table(rows):
    rows = np.asarray(rows, np.float64).reshape(len(rows), -1)
    return np.array([[cosine(a, b) for b in rows] for a in rows])


def feature_norm(method, tokens, k):
    return best([math.hypot(*row) for row in tokens.features.tolist()], k)


def language_overrules(method, tokens, k):
    return best(numbers(tokens, f"vision_attention@{method.layer}"), k)


def vtc_cls(method, tokens, k):
    total = np.zeros(tokens.n)
    for layer in range(-method.layers - 1, -1):
        total += numbers(tokens, f"vision_attention@{layer}")
    return best(total, k)


def flowcut(method, tokens, k):
    alive, flow = list(range(tokens.n)), {}
    for layer in range(-method.layers, 0):
        n, left = len(alive), -1 - layer
        received, values = numbers(tokens, f"vision_attention@{layer}"), numbers(tokens, f"vision_values@{layer}")
        p = {i: received[i] / sum(received[j] for j in alive) for i in alive}
        cls = sum(values[i] for i in alive) / n  # (H, d)
        weights = {i: [math.exp(v @ c) for v, c in zip(values[i], cls, strict=True)] for i in alive}
        totals = [sum(weights[i][h] for i in alive) for h in range(len(cls))]
        for i in alive:
            meaning = np.mean([w / total for w, total in zip(weights[i], totals, strict=True)])
            if method.variant == "code":
                meaning = 0
            s = (p[i] + meaning) * sum(abs(x) for x in values[i].mean(axis=0))
            flow[i] = 0.5 * flow[i] + 0.5 * s if i in flow else s
        leaving = 0
        if left == 0:
            leaving = n - k
        elif left % 2 == 0 and n > k:
            entropy = -sum(x * math.log(x) for x in p.values())
            leaving = min(n - k, round((n - k) / left**0.5 * (1 - (entropy / math.log(n)) ** 2)))
        for i in sorted(alive, key=lambda i: flow[i])[:leaving]:
            alive.remove(i)
    return best(flow, k, alive)


def flowcut_tower(method, tokens, k):
    tower, order, start = tokens.signal("tower"), {}, 0
    n, shares = sum(tower.counts), [count * k / sum(tower.counts) for count in tower.counts]
    quotas = [math.floor(share + 1e-9) for share in shares]
    for picture in sorted(range(len(quotas)), key=lambda p: -shares[p])[: k - sum(quotas)]:
        quotas[picture] += 1
    assert sum(quotas) == k <= n
    for picture, count in enumerate(tower.counts):
        alive, flow = list(range(count)), {}

        def rule(seen, quota=quotas[picture], alive=alive, flow=flow):
            received, values, cls = seen.attention.numpy(), seen.values.numpy(), seen.cls.numpy()
            p = [x / sum(received) for x in received]
            heads = [[math.exp(v[h] @ cls[h]) for v in values] for h in range(len(cls))]
            for place, token in enumerate(alive):
                looks = np.mean([head[place] / sum(head) for head in heads])
                s = (p[place] + looks) * sum(abs(x) for x in values[place].mean(axis=0))
                flow[token] = 0.5 * flow[token] + 0.5 * s if token in flow else s
            size, leaving = len(alive), 0
            if seen.left == 0:
                leaving = size - quota
            elif seen.left % 2 == 0 and size > quota:
                entropy = -sum(x * math.log(x) for x in p)
                focus = 1 - (entropy / math.log(size)) ** 2
                leaving = min(size - quota, round((size - quota) / seen.left**0.5 * focus))
            gone = sorted(alive, key=lambda token: flow[token])[:leaving]
            stays = torch.tensor([place for place, token in enumerate(alive) if token not in gone])
            alive[:] = [token for token in alive if token not in gone]
            return stays

        if quotas[picture]:
            tower(picture, rule)
            order |= {start + token: flow[token] for token in alive}
        start += count
    return sorted(order, key=lambda token: -order[token])


def hiprune(method, tokens, k):
    middle, deep = (
        numbers(tokens, f"vision_attention_map@{layer}").sum(axis=0)
        for layer in (method.object_layer, method.deep_layer)
    )
    place = {}  # token -> picture, frame, row, column
    for number, grid in enumerate(tokens.grids):
        cells = np.ndindex(grid.t, grid.gh, grid.gw)
        place |= {grid.start + i: (number, *cell) for i, cell in enumerate(cells)}
    token = {where: i for i, where in place.items()}
    anchors = best(middle, round(k * method.alpha / 5))
    buffers = set()
    for anchor in anchors:
        number, frame, row, column = place[anchor]
        grid = tokens.grids[number]
        if method.variant == "code":
            steps = [anchor + step for step in (-1, 1, -grid.gw, grid.gw)]
            buffers |= {min(max(i, grid.start), grid.stop - 1) for i in steps}
        else:
            beside = [(row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)]
            buffers |= {token[number, frame, *at] for at in beside if (number, frame, *at) in token}
    buffers -= set(anchors)
    rest = set(range(tokens.n)) - set(anchors) - buffers
    return (anchors + best(middle, None, sorted(buffers)) + best(deep, None, sorted(rest)))[:k]


def todre(method, tokens, k):
    similarity, attention = table(tokens.features), numbers(tokens, "vision_attention@-1")
    pool = [i for grid in tokens.grids if grid.role == "thumbnail" for i in range(grid.start, grid.stop)]
    chosen = best(attention, 1, pool or None)
    while len(chosen) < k:
        left = [i for i in range(tokens.n) if i not in chosen]
        chosen.append(min(left, key=lambda i: sum(similarity[i, s] for s in chosen)))
    return chosen


def erank(rows):
    rows = np.asarray(rows, np.float64)
    sigma = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    p = [s / sigma.sum() for s in sigma if s > 1e-9 * sigma[0]]
    return math.exp(-sum(x * math.log(x) for x in p)) if p else 1.0


def agile_pruner(method, tokens, k):
    similarity, complexity = table(tokens.features), erank(tokens.features) / method.erank_avg
    ranked = best(numbers(tokens, f"vision_attention@{method.layer}"), tokens.n)
    chosen, survivors = [], list(ranked)
    while survivors:
        token = survivors[0]
        threshold = min(0.01 * (ranked.index(token) + 1) * complexity, method.tau_max)
        survivors = [i for i in survivors[1:] if 1 - similarity[token, i] >= threshold]
        chosen.append(token)
    return (chosen + [i for i in ranked if i not in chosen])[:k]


def fopru(method, tokens, k):
    attention = numbers(tokens, f"vision_attention_map@{method.layer}")
    significance = max(attention.mean(axis=0), attention.mean(axis=1), key=np.var)
    if method.strategy == "rank":
        return best(significance, k)
    rows = [range(start, start + grid.gw) for grid in tokens.grids for start in range(grid.start, grid.stop, grid.gw)]
    rows.sort(key=lambda row: -sum(significance[i] for i in row))
    return [i for row in rows for i in best(significance, None, row)][:k]


def quotas(wanted, room, k):
    """In single units where the code counts at once."""
    quota = [math.floor(w + 1e-9) for w in wanted]
    surplus = sum(max(0, q - r) for q, r in zip(quota, room, strict=True))
    quota = [min(q, r) for q, r in zip(quota, room, strict=True)]
    pull = [w * (r - q) for w, r, q in zip(wanted, room, quota, strict=True)]
    if surplus and sum(pull):
        quota = [
            min(r, q + math.floor(surplus * p / sum(pull) + 1e-9)) for q, r, p in zip(quota, room, pull, strict=True)
        ]
    while sum(quota) < k:
        for part in best(wanted, None):
            if quota[part] < room[part] and sum(quota) < k:
                quota[part] += 1
    return quota


def holov(method, tokens, k):
    similarity, attention = table(tokens.features), numbers(tokens, "vision_attention@-1")
    crops = np.array_split(np.arange(tokens.n), min(tokens.n, max(1, math.floor(1024 / 576 * tokens.n / k))))
    holistic, rank, means = {}, {}, []
    for crop in crops:
        diversity = []
        for i in crop:
            row = [0 if i == j else similarity[i, j] for j in crop]
            mean = sum(row) / max(1, len(crop) - 1)
            diversity.append(sum((x - mean) ** 2 for x in row) / max(1, len(crop) - 1))
        spread = np.mean(diversity)
        gamma = np.mean(attention[crop]) / spread if spread else 0
        for i, v in zip(crop, diversity, strict=True):
            holistic[i] = attention[i] + gamma * v * (0.09 if method.variant == "code" else 1)
            rank[i] = attention[i] if method.variant == "code" else holistic[i]
        means.append(np.mean([holistic[i] for i in crop]))
    weights = [mean**method.tau for mean in means]
    shares = quotas([k * w / sum(weights) for w in weights], [len(crop) for crop in crops], k)
    kept = [i for crop, quota in zip(crops, shares, strict=True) for i in best(rank, quota, crop)]
    return best(rank, None, sorted(kept))


def bilinear(picture, x, y):
    """The value at x, y in 0..1 of a picture whose pixels are known at their centres."""
    found = 0
    for axis_y, weight_y in beside(y * len(picture) - 0.5, len(picture)):
        for axis_x, weight_x in beside(x * len(picture[0]) - 0.5, len(picture[0])):
            found += weight_y * weight_x * picture[axis_y][axis_x]
    return found


def beside(at, size):
    at = min(max(at, 0), size - 1)
    low = min(int(at), size - 2) if size > 1 else 0
    return [(low, 1 - (at - low)), (min(low + 1, size - 1), at - low)]


def globalcom2(method, tokens, k):
    attention = numbers(tokens, "vision_attention@-1")
    scores, parts, wanted = list(attention), defaultdict(list), defaultdict(float)
    for grid in tokens.grids:
        members = range(grid.start, grid.stop)
        own = attention[members] / attention[members].sum()
        part, ratio = (grid.role, grid.start), k / tokens.n
        thumbnail = [other for other in tokens.grids if (other.role, other.image) == ("thumbnail", grid.image)]
        if grid.role == "whole":
            own, part = attention[members], ("whole", -1)
        if grid.role == "tile" and thumbnail:
            view = attention[thumbnail[0].start : thumbnail[0].stop].reshape(thumbnail[0].gh, thumbnail[0].gw)
            view = view / view.sum()
            siblings = [other for other in tokens.grids if (other.role, other.image) == ("tile", grid.image)]
            seen = []
            for other in siblings:
                x0, y0, x1, y1 = other.box
                rows, columns = ([(i + 0.5) / size for i in range(size)] for size in view.shape)
                seen.append(
                    sum(
                        view[r][c]
                        for r, y in enumerate(rows)
                        for c, x in enumerate(columns)
                        if x0 <= x < x1 and y0 <= y < y1
                    )
                )
            sigma = np.exp(np.array(seen) / method.tau) / sum(np.exp(np.array(seen) / method.tau))
            ratio = min(1, ratio * (1 + sigma[siblings.index(grid)] - 1 / len(siblings)))
            x0, y0, x1, y1 = grid.box
            overview = np.array(
                [
                    bilinear(view.tolist(), x0 + (c + 0.5) / grid.gw * (x1 - x0), y0 + (r + 0.5) / grid.gh * (y1 - y0))
                    for r in range(grid.gh)
                    for c in range(grid.gw)
                ]
            )
            if method.variant == "code":
                overview, own = overview / np.linalg.norm(overview), own / np.linalg.norm(own)
            own = method.alpha * overview + (1 - method.alpha) * own
        parts[part] += members
        wanted[part] += ratio * grid.count
        scores[grid.start : grid.stop] = own
    shares = quotas(list(wanted.values()), [len(part) for part in parts.values()], k)
    kept = [i for members, quota in zip(parts.values(), shares, strict=True) for i in best(scores, quota, members)]
    return best(scores, None, sorted(kept))


def zero_tprune(method, tokens, k):
    attention, similarity = numbers(tokens, "vision_attention_map@-1"), table(tokens.signal("vision_keys@-1"))
    score = np.linalg.matrix_power(attention.T, method.iterations).sum(axis=1)
    ranked = best(score, tokens.n)
    half = math.ceil(tokens.n / 2)
    alike = {i: max(similarity[i, j] for j in ranked[:half]) for i in ranked[half:]}
    leaving = min(round(method.similar * (tokens.n - k)), len(alike))
    gone = sorted(alike, key=lambda i: -alike[i])[:leaving]
    return [i for i in ranked if i not in gone][:k]
