"""ATP-LLaVA: learned thresholds on redundancy, and on a sample of the grid."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pruning import ops
from pruning.ops.queries import Attention, blocks
from pruning.ops.scaling import minmax
from pruning.params import Choice as Options
from pruning.schedules import at_depth, pyramid
from pruning.seen import Choice, Seen
from pruning.staged import StagedScore, register_staged

AFTER, DEPTH = (4, 14, 24), 32  # layers that have run before each cut, of so many
RATES = (0.5, 0.25, 0.0625)  # R_s of each cut
SHARE = 0.2936  # what stays of what is there at each cut: 144 of 576 in the mean of all layers, as published
STEEP = 3.0  # λ_s


@register_staged
@dataclass(frozen=True)
class ATPLLaVA(StagedScore):
    """Keep what the other tokens and the text attend to, above a threshold, and a sample of the grid, above another.

    S_red = (S_self + S_cross) / 2: what visual tokens and text give a token in the layer before the cut, in the mean of
    rows and heads.  S_sp = max(0, 1 - λ_s·R_s) on every round(√(1/R_s))-th row and column, else 0.  A small net of each
    cut turns the sample's mean S_self and S_cross into θ_r and θ_s;  a token stays if S_red > θ_r or S_sp > θ_s.

    https://arxiv.org/abs/2412.00447
    Here the tokens with the highest max(S_red - θ_r, S_sp - θ_s) stay, as many as the budget has: those above 0 first,
    which the rule keeps. budget "own": none but those, at most as many, at least one.
    Differs: after the softmax S_red is about 1/N, below any threshold, so it is scaled to 0..1 over the tokens alive,
    and the means are times their number, the share of attention that stays in the picture. Layers, R_s and λ_s are
    those of a re-implementation; the model itself is not trained.
    """

    name: ClassVar[str] = "atp_llava"
    title: ClassVar[str] = "ATP-LLaVA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2412.00447"
    venue: ClassVar[str] = "CVPR 2025"
    trained: ClassVar[bool] = True
    adaptation: ClassVar[str] = (
        "A budget makes its own one exact; with 'own' it is a limit. Scores are scaled to 0..1; layers and rates are a "
        "re-implementation's; only the thresholds are trained, not the model. Slow: it reads all visual rows of three "
        "layers."
    )

    budget: Annotated[
        Literal["exact", "own"],
        Options(label="Budget", help="exact: as asked for · own: what passes its thresholds, at most as many"),
    ] = "exact"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"attention", "text_attention", "places", "atp_llava"})

    def pick(self, seen: Seen, k: int) -> Choice:
        scores = self.score(seen)
        if self.budget == "own":
            k = min(k, max(1, int((scores > 0).sum())))
        return Choice(ops.topk(scores, k), scores)

    def score(self, seen: Seen) -> Tensor:
        own = given(seen.signals["attention"], len(seen.rows), seen.visual)[seen.visual]
        cross = seen.signals["text_attention"].mean((0, 1))[seen.visual]
        afters = [after for after, _ in self.shape(seen.layers)]
        cut = max(0, bisect(afters, seen.after) - 1)
        with torch.no_grad():
            thresholds = seen.signals["atp_llava"](cut, torch.stack([own.sum(), cross.sum()]))
        sampled = spatial(seen.signals["places"], rates(seen.layers)[cut])
        return margin(minmax((own + cross) / 2), sampled, thresholds.to(own))

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return at_depth([(after, SHARE ** (cut + 1)) for cut, after in enumerate(AFTER)], DEPTH, layers)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        return pyramid([after for after, _ in self.shape(layers)], n, layers, retention)


def rates(layers: int) -> list[float]:
    """R_s of each cut in a model of L >= 2 layers."""
    return [rate for _, rate in at_depth(tuple(zip(AFTER, RATES, strict=True)), DEPTH, layers)]


def given(attention: Attention, n: int, rows: Tensor) -> Tensor:
    """(n,) what the tokens at `rows` (r,) give each of all n, in the mean of these rows and of the heads."""
    total = torch.zeros(n, device=rows.device)
    for _, part in blocks(attention, n, rows):
        total += part.mean(0).sum(0)
    return total / len(rows)


def spatial(places: Tensor, rate: float) -> Tensor:
    """(A,) S_sp of tokens at `places` (A, 2), row and column from 0.

    >>> spatial(torch.cartesian_prod(torch.arange(2.), torch.arange(3.)), 0.25).tolist()
    [0.25, 0.0, 0.25, 0.0, 0.0, 0.0]
    """
    stride = round((1 / rate) ** 0.5)
    return (places % stride == 0).all(1) * max(0.0, 1 - STEEP * rate)


def margin(redundancy: Tensor, sampled: Tensor, thresholds: Tensor | Sequence[float]) -> Tensor:
    """(A,) by how much S_red (A,) or S_sp (A,) stands above its threshold, (θ_r, θ_s); above 0 stays.

    >>> margin(torch.tensor([0.5, 0.0]), torch.tensor([0.0, 0.25]), (0.25, 0.5)).tolist()
    [0.25, -0.25]
    """
    return torch.maximum(redundancy - thresholds[0], sampled - thresholds[1])
