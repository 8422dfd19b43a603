"""Small visual tokens for tests: random but repeatable, with every signal of `pruning.signals`.

sample(60)                              60 tokens with every signal, layers -1 to -4
sample(60, needs=method.needs)          the same values, only what is asked for, at any layer
sample(60, grids=tiles(60))             a thumbnail and tiles; attention stays inside each of them
sample(24, rows=torch.zeros(24, 12))    other features; "projector" at offset 0 gives them
moved(tokens, permutation)              the same tokens at other places, every signal moved along
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pruning.evaluation import synthetic
from pruning.grids import Grid
from pruning.ops.scaling import cosine_similarity
from pruning.signals import FUNCTIONS, SHAPES, Flow, Tower
from pruning.tokens import VisualTokens

SIZES = synthetic.Sizes(heads=2, head_width=5, pre_width=9, words=3)  # no two dimensions are equal by chance
LAYERED = ("vision_attention", "vision_attention_map", "vision_keys", "vision_values")
EVERY = tuple(
    name
    for kind in (*SHAPES, *sorted(FUNCTIONS))
    for name in ([f"{kind}@{layer}" for layer in (-1, -2, -3, -4)] if kind in LAYERED else [kind])
)


def features(n: int, width: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def similarity(n: int, width: int = 12, seed: int = 0) -> Tensor:
    return cosine_similarity(features(n, width, seed))


def scores(n: int, seed: int = 1) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed))


def sample(
    n: int = 60,
    width: int = 12,
    seed: int = 0,
    grids: tuple[Grid, ...] | None = None,
    needs: Iterable[str] = EVERY,
    rows: Tensor | None = None,
) -> VisualTokens:
    """rows: (n, D) features in the place of random ones; `width` is then theirs."""
    rows = features(n, width, seed) if rows is None else rows
    return synthetic.tokens(rows, grids or (Grid(1, 1, n),), needs, seed, SIZES)


def signals(n: int, width: int = 12, seed: int = 0, needs: Iterable[str] = EVERY) -> dict[str, Any]:
    """The signals of `sample(n, width, seed)`."""
    return dict(sample(n, width, seed, needs=needs).signals)


def tiles(n: int) -> tuple[Grid, ...]:
    """A thumbnail first, then the four tiles of one image, for any n >= 5; with a remainder, a second whole image."""
    part = n // 5
    boxes = [(x / 2, y / 2, x / 2 + 0.5, y / 2 + 0.5) for y in (0, 1) for x in (0, 1)]
    grids = [_grid(part, 0, role="thumbnail")]
    grids += [_grid(part, part * (i + 1), role="tile", box=box) for i, box in enumerate(boxes)]
    return (*grids, Grid(1, 1, n % 5, 5 * part, image=1)) if n % 5 else tuple(grids)


def moved(tokens: VisualTokens, places: Tensor) -> VisualTokens:
    """The same tokens at other places on the same grids: new place i holds old token places[i]."""
    found: dict[str, Any] = {}
    for name, value in tokens.signals.items():
        kind = name.partition("@")[0]
        if kind == "question":
            found[name] = value
        elif kind == "tower":
            found[name] = _moved_tower(value, places)
        elif kind == "projector":
            found[name] = dataclasses.replace(value, rows=value.rows[places], pre=value.pre[places])
        elif kind == "vision_attention_map":
            found[name] = value[places][:, places]
        else:
            found[name] = value[places]
    return VisualTokens(tokens.features[places], tokens.grids, found)


def _grid(count: int, start: int, **more: Any) -> Grid:
    """`count` tokens as nearly square as they go."""
    height = max(h for h in range(1, int(count**0.5) + 1) if count % h == 0)
    return Grid(1, height, count // height, start, **more)


def _moved_tower(tower: Tower, places: Tensor) -> Tower:
    """The tower of one picture whose tokens lie elsewhere: its rule sees them in their new order."""
    assert len(tower.counts) == 1

    def run(picture: int, rule: Any) -> Tensor:
        now = torch.arange(len(places))  # of each token alive, where it was
        order = places.argsort()  # the new place of each old one

        def old(flow: Flow) -> Tensor:
            nonlocal now
            turn = order[now].argsort()
            stays = turn[rule(dataclasses.replace(flow, attention=flow.attention[turn], values=flow.values[turn]))]
            now = now[stays.sort().values]
            return stays.sort().values

        rows = tower(picture, old)
        return rows[order[now].argsort()]

    return Tower(run, tower.counts)
