"""What came of a plan: which tokens each cut saw, what it ranked them by, and until where each token lived."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pruning.staged import StagedMethod


@dataclass(frozen=True, eq=False)
class CutTrace:
    """What one cut came to, in indices of the N tokens of the unpruned sample.

    after: layers that have run. alive: (A,) int64 ascending, alive before it. order: (k,) those that stay, in pick
    order. scores: (N,) float32, what its rule ranked by, NaN for what was not alive; None where it has no scores.
    merged: (c,) those of `order` that stand for others too.
    """

    after: int
    rule: StagedMethod
    alive: Tensor
    order: Tensor
    scores: Tensor | None
    merged: Tensor


@dataclass(frozen=True, eq=False)
class Trace:
    """What a plan came to.

    alive: visual tokens that each of the L layers processed; held: those whose keys and values it keeps. lives: (N,)
    int64, how many layers processed each token, 0 = it never entered. entered: tokens that entered. cuts: in order.
    """

    alive: tuple[int, ...]
    held: tuple[int, ...]
    lives: Tensor
    entered: int
    cuts: tuple[CutTrace, ...]

    @property
    def scores(self) -> tuple[tuple[int, Tensor], ...]:
        """(layers that have run, scores) of every cut whose rule has scores."""
        return tuple((cut.after, cut.scores) for cut in self.cuts if cut.scores is not None)

    @property
    def depths(self) -> Tensor:
        """(N,) float32, the share of the layers that processed each token."""
        return self.lives.float() / len(self.alive)

    @property
    def equivalent(self) -> float:
        """Mean over the layers of the share of the N tokens that is alive."""
        return sum(self.alive) / (len(self.alive) * len(self.lives))
