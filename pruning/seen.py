"""What a rule between layers sees at its cut, and what it answers. Knows neither models nor rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

SIGNALS: dict[str, str] = {
    "last_attention": "(H, R) attention of the prompt's last token in the layer before the cut",
    "text_attention": "(H, T, R) attention of the text after the images in the layer before the cut",
    "attention": "a function, (r,) places in `rows` -> (H, r, R) attention of these tokens in the layer before the cut",
    "gravity": "(T, R) what text_attention would be, were all queries and keys the same: by distance alone",
    "next_last_attention": "(H, R) of the last token, by the weights of the layer after the cut",
    "next_text_attention": "(H, T, R) of the text after the images, by the weights of the layer after the cut",
    "keys": "(R, G·d) rotated keys of the layer before the cut",
    "hidden": "(R, D) hidden states at the cut",
    "normed": "(R, D) hidden states at the cut, after the language model's final norm",
    "embeddings": "the language model's input: ((K, D) of all visual tokens that entered, (T, D) of the text)",
    "transitions": "what every layer so far did to its tokens, a sequence of Transition",
    "received": "attention that tokens received in every layer so far, over heads and queries, a sequence of Received",
    "received_from_last": "the same from the prompt's last token alone, in the mean over heads",
    "places": "(A, 2) row and column of each token alive, from 0, in its picture, tile or frame",
    "atp_llava": "a trained module, a function: cut from 0 and what `models.trained` says, (2,) -> (2,) thresholds",
    "entry_scores": "(A,) by which the method before the language model chose what enters",
}
"""What a rule may ask for by name. Attention is after the softmax over all R keys; values are float32."""


@dataclass(frozen=True, eq=False)
class Transition:
    """What attention (0) and MLP (1) of one layer did to each of its tokens.

    rows: (R,) places of its tokens in the prompt. ratio: (2, R) norm of what the module adds to a token over the norm
    of what it was given. cosine: (2, R) cosine of the two.
    """

    layer: int
    rows: Tensor
    ratio: Tensor
    cosine: Tensor


@dataclass(frozen=True, eq=False)
class Received:
    """What one layer's tokens received: rows (R,) their places in the prompt, values (R,)."""

    layer: int
    rows: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """What stands at a cut, and what the rule asked to see of it.

    after:  layers that have run; the cut lies before layer `after`, counted from 0
    layers: L                            n: N, visual tokens of the unpruned sample
    tokens: (A,) int64, ascending: which of the N are alive
    rows:   (R,) int64, ascending: the place in the prompt of everything alive, text included
    visual: (A,) int64: where in `rows` each alive token stands
    text:   (T,) int64: where in `rows` the text after the images stands, T >= 1
    images: (A,) int64: which of the sample's images each token alive shows, from 0
    earlier: how many cuts of the plan have been made before this one
    """

    after: int
    layers: int
    n: int
    tokens: Tensor
    rows: Tensor
    visual: Tensor
    text: Tensor
    images: Tensor
    earlier: int = 0
    signals: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Choice:
    """What a rule keeps of A tokens: (k,) int64 indices into `Seen.tokens`, in pick order.

    scores: (A,) float32, what it ranked by, or None. merged: (c,) indices into `Seen.tokens`, all kept, whose hidden
    states become `merged_rows` (c, D); None where the rule only selects.
    """

    order: Tensor
    scores: Tensor | None = None
    merged: Tensor | None = None
    merged_rows: Tensor | None = None


def tensors_of(signal: Any) -> Iterator[Tensor]:
    """The tensors of a signal; none of a function."""
    if isinstance(signal, Tensor):
        yield signal
    elif isinstance(signal, tuple):
        for part in signal:
            yield from tensors_of(part)
    elif isinstance(signal, Transition | Received):
        yield from tensors_of(tuple(vars(signal).values()))
