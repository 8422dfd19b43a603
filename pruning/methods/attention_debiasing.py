"""Attention Debiasing: later tokens are attended to because they stand later; weigh that out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from pruning.params import Choice, Range
from pruning.seen import Seen
from pruning.staged import STAGED, StagedScore, register_staged

PUBLISHED = 576  # tokens of a picture that the weights were fitted on


@register_staged
@dataclass(frozen=True)
class AttentionDebiasing(StagedScore):
    """Another method's scores, at its first cut weighed by w_i = exp(-λ·i·576 / N), i the place of the token among N.

    At later cuts the host's own scores.

    https://arxiv.org/abs/2508.17807
    The release has weights for each host and data set, fitted on its test questions: λ from .0015 to .0046, for FastV a
    curve that falls from 1 to .36. Here λ is one for all. Its second factor, 0 for padding of square pictures, has no
    place where towers take pictures as they are.
    """

    name: ClassVar[str] = "attention_debiasing"
    title: ClassVar[str] = "Attention Debiasing"
    paper: ClassVar[str] = "https://arxiv.org/abs/2508.17807"
    venue: ClassVar[str] = "arXiv 2025"
    adaptation: ClassVar[str] = (
        "One λ for all hosts, where the release fits weights to each test set; counted on N in place of 576 tokens. "
        "Nothing is known to be padding. Cuts and counts are the host's."
    )

    host: Annotated[
        Literal["fastv", "pyramiddrop", "sparsevlm"],
        Choice(label="Host", help="whose scores and cuts; of SparseVLM's nothing is recycled"),
    ] = "fastv"
    decay: Annotated[float, Range(0, 0.01, 0.0005, label="λ", help="0 is the host itself")] = 0.003

    @property
    def _host(self) -> StagedScore:
        made = STAGED[self.host]()
        assert isinstance(made, StagedScore)
        return made

    @property
    def needs(self) -> frozenset[str]:
        return self._host.scored_by

    def score(self, seen: Seen) -> Tensor:
        scores = self._host.score(seen)
        if seen.earlier:
            return scores
        return scores * (-self.decay * PUBLISHED / seen.n * seen.tokens).exp()

    def shape(self, layers: int) -> tuple[tuple[int, float], ...]:
        return self._host.shape(layers)

    def counts(self, n: int, layers: int, retention: float) -> tuple[int, ...]:
        return self._host.counts(n, layers, retention)
