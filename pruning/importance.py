"""Where a token's importance comes from: the sources a method may choose among, and the signals each one needs.

Raw importance is on its source's own scale; methods normalise it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch
from torch import Tensor

from pruning.method import Method
from pruning.params import Choice
from pruning.signals import check_signal
from pruning.tokens import Selection, VisualTokens

ImportanceSource = Literal["scorer", "vision_attention", "feature_norm", "relevance"]
SOURCES: tuple[str, ...] = get_args(ImportanceSource)
SIGNALS: dict[str, str | None] = {
    "scorer": "scorer",
    "vision_attention": "vision_attention@-1",
    "feature_norm": None,
    "relevance": "question",
}
ImportanceKnob = Annotated[
    ImportanceSource,
    Choice(
        label="Importance source",
        help="scorer: the trained scorer · vision_attention: attention received in the last vision layer · "
        "feature_norm: length of the feature · relevance: cosine to the question",
    ),
]


def signals_for(source: str) -> frozenset[str]:
    """The signal names a source needs. Raises ValueError listing the known sources."""
    if source not in SIGNALS:
        raise ValueError(f"unknown importance source {source!r}; known sources: {', '.join(SIGNALS)}")
    signal = SIGNALS[source]
    return frozenset() if signal is None else frozenset({signal})


def sources_for(signals: Collection[str]) -> list[str]:
    """The sources that a model with these signals can serve, best first."""
    return [source for source in SOURCES if signals_for(source) <= set(signals)]


def best_source(signals: Collection[str]) -> str:
    """The first of `sources_for`: lengths of features can always be had."""
    return sources_for(signals)[0]


def heat_scores(
    selection: Selection, signals: Collection[str], tokens: Callable[[frozenset[str]], VisualTokens]
) -> Tensor:
    """(N,) what the heat map shows: the method's own scores; of one that scores nothing, raw importance by the best
    source that a model with these signals has. tokens: the image's tokens with the signals that it is asked for.
    """
    if selection.scores is not None:
        return selection.scores
    source = best_source(signals)
    return raw_importance(tokens(signals_for(source)), source, "the heat map")


def raw_importance(tokens: VisualTokens, source: str, asked_by: str) -> Tensor:
    """(N,) float32, higher = more important.

    scorer, vision_attention: the signal as captured. feature_norm: L2 length. relevance: cosine of each token to the
    mean of the question's token embeddings, each at unit length (0 for a zero-norm token).
    Raises ValueError naming `asked_by` (the method), the signal and its shape when it is absent, misshapen or not
    finite.
    """
    wanted = signals_for(source)
    if not wanted:
        return torch.linalg.vector_norm(tokens.features, dim=1)
    (name,) = wanted
    signal: Tensor = tokens.signal(name)
    check_signal(asked_by, name, signal, tokens.n, tokens.features.shape[1])
    signal = signal.to(device=tokens.features.device, dtype=torch.float32)
    if source != "relevance":
        return signal
    question = torch.nn.functional.normalize(signal, dim=1).mean(dim=0)
    return torch.nn.functional.normalize(tokens.features, dim=1) @ torch.nn.functional.normalize(question, dim=0)


@dataclass(frozen=True)
class ImportanceMethod(Method):
    """A method with the `importance` knob; what it needs follows the knob."""

    importance: ImportanceKnob = "scorer"

    @property
    def needs(self) -> frozenset[str]:
        return signals_for(self.importance)

    def raw_importance(self, tokens: VisualTokens) -> Tensor:
        """(N,) float32 on the source's own scale."""
        return raw_importance(tokens, self.importance, self.name)
