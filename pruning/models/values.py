"""The values that pass between a model and its callers. All frozen, none holds the model."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pruning.tokens import VisualTokens

Finish = Literal["stop", "length"]


class ModelError(ValueError):
    """A checkpoint cannot be used. The message names the cause and the remedy."""


@dataclass(frozen=True)
class Encoded:
    """What the vision tower made of the images; independent of any question, so it can be cached by content.

    Attributes:
        tokens: (N, D) float32 rows on the CPU, and the signals that were asked for.
        rects: (N, 4) float32, x0, y0, x1, y1 of every visual token in pixels of the image given to `encode`.
        sizes: (width, height) of every given image.
        encode_s: seconds that preprocessing and the vision tower took.
    """

    tokens: VisualTokens
    rects: np.ndarray
    sizes: tuple[tuple[int, int], ...]
    encode_s: float

    @property
    def nbytes(self) -> int:
        """Bytes held by tensors and arrays, the N × N similarity included once it is computed: what a cache counts."""
        held = (self.tokens.features, *self.tokens.signals.values(), self.tokens.__dict__.get("similarity"))
        return self.rects.nbytes + sum(t.numel() * t.element_size() for t in held if isinstance(t, Tensor))


@dataclass(frozen=True)
class Prompt:
    """Token ids with one placeholder per visual token, and the position of each.

    Attributes:
        input_ids: (1, n) int64.
        positions: (3, 1, n) for families with M-RoPE, (1, n) for the others; int64.
        visual: (n,) bool, True at the placeholders.
    """

    input_ids: Tensor
    positions: Tensor
    visual: Tensor

    @property
    def n(self) -> int:
        return int(self.input_ids.shape[1])

    def keep(self, indices: Tensor) -> "Prompt":
        """The same prompt with only the visual tokens `indices` (K,); what stays keeps its position."""
        kept = ~self.visual
        kept[self.visual.nonzero().squeeze(1)[indices]] = True
        return Prompt(self.input_ids[:, kept], self.positions[..., kept], self.visual[kept])


@dataclass(frozen=True)
class Chunk:
    """One generated token: its id, the whole text so far, seconds since the start; `finish` is set on the last one."""

    token_id: int
    text_so_far: str
    seconds: float
    finish: Finish | None = None


@dataclass(frozen=True)
class Answer:
    """A finished or cancelled answer.

    Attributes:
        ids: generated token ids, the end-of-turn token included.
        ttft_s: seconds to the first token (0 when cancelled before it), without the vision tower and the selection.
        prefill_tokens: length of the sequence that was prefilled: text and kept visual tokens.
        finished: the model ended its answer itself, rather than at `max_new_tokens`.
        cancelled: stopped through the `cancel` event.
    """

    text: str
    ids: tuple[int, ...]
    ttft_s: float
    total_s: float
    prefill_tokens: int
    finished: bool
    cancelled: bool


def checked_indices(indices: Tensor | None, n: int) -> Tensor:
    """(K,) int64, ascending, on the CPU; None stands for all n. ValueError unless 1 <= K <= n, unique and in range."""
    if indices is None:
        return torch.arange(n)
    flat = torch.as_tensor(indices).cpu()
    if flat.ndim != 1 or flat.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"kept indices must be one row of integers, not shape {tuple(flat.shape)} of {flat.dtype}")
    unique = flat.unique().long()
    if unique.numel() == 0 or unique.numel() != flat.numel() or unique[0] < 0 or unique[-1] >= n:
        raise ValueError(
            f"kept indices must be 1 to {n} different numbers from 0 to {n - 1}: got {flat.numel()}, "
            f"{unique.numel()} of them different" + (f", from {unique[0]} to {unique[-1]}" if unique.numel() else "")
        )
    return unique
