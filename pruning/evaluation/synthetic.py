"""Random visual tokens with signals of the right shapes: for benchmarks and tests, never for answers.

Same arguments, same values. A signal depends on its name, the seed and the shapes, not on which others are asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.grids import Grid
from pruning.signals import SHAPES, Flow, Rule, Tower
from pruning.tokens import VisualTokens


@dataclass(frozen=True)
class Sizes:
    """Of the vision tower and the question; by default those of Qwen2.5-VL-3B and a short question."""

    heads: int = 16  # H
    head_width: int = 80  # d
    pre_width: int = 1280  # C
    words: int = 8  # M


def tokens(
    rows: Tensor, grids: tuple[Grid, ...], needs: Iterable[str], seed: int = 0, sizes: Sizes | None = None
) -> VisualTokens:
    """The features `rows` (N, D) float32 on these grids with the signals `needs`."""
    return VisualTokens(rows, grids, {name: signal(name, rows, grids, seed, sizes or Sizes()) for name in needs})


def signal(name: str, rows: Tensor, grids: tuple[Grid, ...], seed: int, sizes: Sizes) -> Tensor | Projector | Tower:
    """The signal of that name, see `pruning.signals`, for the features `rows` (N, D)."""
    if name == "tower":
        return tower(rows, _tensor("pre_projector", rows, grids, seed, sizes), grids, sizes, _generator(name, seed))
    if name == "projector":
        return Projector.random(rows, _tensor("pre_projector", rows, grids, seed, sizes), _generator(name, seed))
    return _tensor(name, rows, grids, seed, sizes)


def _tensor(name: str, rows: Tensor, grids: tuple[Grid, ...], seed: int, sizes: Sizes) -> Tensor:
    n, width = rows.shape
    kind, generator = name.partition("@")[0], _generator(name, seed)
    if kind == "vision_attention_map":
        owner = torch.repeat_interleave(torch.tensor([grid.count for grid in grids]))
        logits = 2 * torch.randn(n, n, generator=generator)
        return logits.masked_fill(owner[:, None] != owner[None, :], -torch.inf).softmax(dim=1)
    size = {"N": n, "D": width, "H": sizes.heads, "d": sizes.head_width, "C": sizes.pre_width, "M": sizes.words}
    shape = [size[axis] if axis in size else int(axis) for axis in SHAPES[kind].strip("(),").split(", ")]
    if kind == "vision_attention":
        return torch.rand(shape, generator=generator)
    if kind == "patch_entropy":
        return 8 * torch.rand(shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _generator(name: str, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)


@dataclass(frozen=True, eq=False)
class Projector:
    """A small two-layer network on `pre` (N, C), shifted per token so that offset 0 gives `rows` (N, D) exactly."""

    rows: Tensor
    pre: Tensor
    inner: Tensor  # (C, 16)
    outer: Tensor  # (16, D)

    @classmethod
    def random(cls, rows: Tensor, pre: Tensor, generator: torch.Generator) -> Projector:
        inner = torch.randn(pre.shape[1], 16, generator=generator) / pre.shape[1] ** 0.5
        return cls(rows, pre, inner, torch.randn(16, rows.shape[1], generator=generator))

    def __call__(self, offset: Tensor) -> Tensor:
        return self.rows + (self._network(self.pre + offset) - self._network(self.pre))

    def _network(self, x: Tensor) -> Tensor:
        return torch.nn.functional.gelu(x @ self.inner) @ self.outer


def tower(rows: Tensor, pre: Tensor, grids: tuple[Grid, ...], sizes: Sizes, generator: torch.Generator) -> Tower:
    """A tower of five layers, with a CLS place, in which patches `pre` (N, C) meet the mean of those alive: what is
    left ends as `rows` (N, D) moved by what the mean has lost.
    """
    counts = tuple(grid.gh * grid.gw for grid in grids for _ in range(grid.t))
    layers, width, heads = 5, pre.shape[1], (sizes.heads, sizes.head_width)
    looks = torch.randn(layers, width, generator=generator)
    makes = torch.randn(layers, width, heads[0] * heads[1], generator=generator) / width**0.5
    ends = torch.randn(width, rows.shape[1], generator=generator) / width**0.5

    def run(picture: int, rule: Rule) -> Tensor:
        start = sum(counts[:picture])
        own = pre[start : start + counts[picture]]
        alive, told = torch.arange(len(own)), torch.zeros(width)
        for layer in range(layers):
            seen = own[alive]
            values = (seen @ makes[layer]).view(-1, *heads)
            cls = (seen.mean(dim=0) @ makes[layer]).view(heads)
            alive = alive[rule(Flow(layers - 1 - layer, (seen @ looks[layer]).softmax(dim=0), values, cls))]
            told = told + (own[alive].mean(dim=0) - own.mean(dim=0)).tanh()
        return rows[start + alive] + told @ ends

    return Tower(run, counts)
