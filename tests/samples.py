"""Small visual tokens for tests: random but repeatable, with every signal that a method may ask for."""

from __future__ import annotations

import torch

from pruning.ops import cosine_similarity
from pruning.tokens import Grid, VisualTokens


def features(n: int, width: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def similarity(n: int, width: int = 12, seed: int = 0) -> torch.Tensor:
    return cosine_similarity(features(n, width, seed))


def scores(n: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed))


def signals(n: int, width: int = 12, seed: int = 0) -> dict[str, torch.Tensor]:
    return {
        "scorer": features(n, 1, seed + 100)[:, 0],
        "vision_attention@-1": scores(n, seed + 200),
        "question": features(3, width, seed + 300),
    }


def sample(n: int = 60, width: int = 12, seed: int = 0, grids: tuple[Grid, ...] | None = None) -> VisualTokens:
    return VisualTokens(features(n, width, seed), grids or (Grid(1, 1, n),), signals(n, width, seed))
