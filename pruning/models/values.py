"""The values that pass between a model and its callers. All frozen, none holds the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pruning.encoding import Made
from pruning.plan import Plan
from pruning.tokens import Selection, VisualTokens

if TYPE_CHECKING:
    from pruning.models.language.trace import Trace

Finish = Literal["stop", "length"]
Kind = Literal["image", "video"]
Positions = Literal["original", "compact"]
POSITIONS: tuple[Positions, ...] = get_args(Positions)
"""Where kept tokens stand: where they stood among all tokens, or renumbered without gaps, as serving engines do."""
Entering = Selection | Tensor | None  # a selection, the kept indices (K,), or None for all tokens


class ModelError(ValueError):
    """A checkpoint cannot be used. The message names the cause and the remedy."""


def unsupported(kind: str, reason: str) -> ModelError:
    """The refusal of all models of a type."""
    return ModelError(f"models of type {kind} are not supported because {reason}: choose a model of another family")


@dataclass(frozen=True)
class Turn:
    """A question that was asked, and what the model answered."""

    question: str
    answer: str


@dataclass(frozen=True)
class Rows:
    """What the language model receives at the placeholders of a prompt, float32 on the CPU.

    features: (R, D). deepstack: further levels (R, D) that some families add inside the language model.
    stacked: the kinds whose rows the model passes on as one tensor, instead of a list of tensors.
    video: (R,) bool, the rows that it takes as those of clips; None: none of them.
    """

    features: Tensor
    deepstack: tuple[Tensor, ...] = ()
    stacked: frozenset[Kind] = frozenset()
    video: Tensor | None = None

    def by_kind(self) -> dict[Kind, Rows]:
        """The rows of pictures and those of clips apart, in their order; a kind without rows is left out."""
        if self.video is None:
            return {"image": self}
        parts: tuple[tuple[Kind, Tensor], ...] = (("image", ~self.video), ("video", self.video))
        return {
            kind: Rows(self.features[own], tuple(level[own] for level in self.deepstack), self.stacked)
            for kind, own in parts
            if bool(own.any())
        }


@dataclass(frozen=True)
class Encoded:
    """What the vision tower made of the images; independent of any question, so it can be cached by content.

    Attributes:
        tokens: the N prunable tokens, (N, D) float32 on the CPU, and the signals that were asked for.
        rects: (N, 4) float32, x0, y0, x1, y1 of every token in pixels of the given image that its grid names.
        sizes: (width, height) of every given image.
        encode_s: seconds that preprocessing and the vision tower took.
        texts: for every image, what stands for it in the prompt: one placeholder per row, and the family's own marks.
        side: small inputs of the tower that positions follow from, e.g. image_grid_thw; of clips, video_grid_thw.
        kinds: of every given medium; (): pictures alone.
        taken: of every given medium, which of a clip's frames these are, ascending from 0, () for a picture; (): all
            frames of all clips.
        places: (N,) int64, which of the R rows in the prompt each token is; None: token i is row i, and R = N. In some
            families the rows run across several tiles, while tokens are always told tile by tile.
        marks: (R - N, D) float32, the other rows: line ends and the like, which are never pruned.
        deepstack: (R, D) float32 per level, for families that have them. stacked: see Rows.
        video: (R,) bool, the rows that the model takes as those of clips; None: none. Some families take the frames of
            clips for pictures.
        patches: of the tower, padding among them: what its work grows with.
        strangeness: how far the strangest image lies outside the model's world, 1 = as far as is inside; 0 for clips
            that are no part of that world, and for a model that claims no world of its own.
    """

    tokens: VisualTokens
    rects: np.ndarray
    sizes: tuple[tuple[int, int], ...]
    encode_s: float
    texts: tuple[str, ...]
    side: Mapping[str, Tensor] = field(default_factory=dict)
    places: Tensor | None = None
    marks: Tensor | None = None
    deepstack: tuple[Tensor, ...] = ()
    stacked: frozenset[Kind] = frozenset()
    patches: int = 0
    strangeness: float = 0.0
    kinds: tuple[Kind, ...] = ()
    video: Tensor | None = None
    taken: tuple[tuple[int, ...], ...] = ()

    @property
    def rows_count(self) -> int:
        """R, rows that stand in the prompt."""
        return self.tokens.n + (0 if self.marks is None else len(self.marks))

    @property
    def nbytes(self) -> int:
        """Bytes held by tensors and arrays, the N × N similarities included, computed or not: what a cache counts."""
        more = [t for t in (self.places, self.marks, *self.deepstack) if t is not None]
        return self.tokens.nbytes + self.rects.nbytes + sum(t.numel() * t.element_size() for t in more)

    def rows(self, kept: Entering | Plan) -> Rows:
        """The rows of the kept tokens, merged where a selection merges, among the marks; ValueError as kept_indices."""
        kept = entering(kept)
        indices, merged = kept_indices(kept, self.tokens.n), kept.merged if isinstance(kept, Selection) else None
        if merged is not None and merged.shape[1] != self.tokens.features.shape[1]:
            raise ValueError(
                f"merged rows are {merged.shape[1]} wide, the model's are {self.tokens.features.shape[1]}: the "
                "selection belongs to another model"
            )
        features = self.tokens.features[indices] if merged is None else merged.cpu()
        if self.places is None or self.marks is None:
            video = None if self.video is None else self.video[indices]
            return Rows(features, tuple(level[indices] for level in self.deepstack), self.stacked, video)
        stays = torch.ones(len(self.places) + len(self.marks), dtype=torch.bool)  # (R,)
        stays[self.places] = False
        mark = stays.clone()
        stays[self.places[indices]] = True
        target = stays.cumsum(0) - 1  # (R,) row before pruning -> row after it
        rows = features.new_empty(int(stays.sum()), features.shape[1])
        rows[target[mark]], rows[target[self.places[indices]]] = self.marks, features
        video = None if self.video is None else self.video[stays]
        return Rows(rows, tuple(level[stays] for level in self.deepstack), self.stacked, video)


Kept = Entering | Plan | Made
"""What a question is answered with: what enters the language model; a plan, for what leaves between its layers too;
or another encoding of the same pictures, all of whose tokens enter."""


def standing(encoded: Encoded, kept: Kept) -> tuple[Encoded, Entering | Plan]:
    """The encoding that the question goes to, and what of it is kept.

    Raises ValueError where another encoding is one of other pictures.
    """
    if kept is None or isinstance(kept, Selection | Tensor | Plan):
        return encoded, kept
    if not isinstance(kept, Encoded):
        raise ValueError(f"{type(kept).__name__} is nothing that a question can be answered with: give a selection")
    if kept.sizes != encoded.sizes:
        raise ValueError(
            f"the other encoding is one of pictures of {_sizes(kept)} pixels, not of {_sizes(encoded)}: encode the "
            "same pictures"
        )
    return kept, None


def _sizes(encoded: Encoded) -> str:
    return ", ".join(f"{width}×{height}" for width, height in encoded.sizes)


@dataclass(frozen=True)
class Prompt:
    """Token ids with one placeholder per visual row, and the position of each.

    Attributes:
        input_ids: (1, n) int64.
        positions: (3, 1, n) for families with M-RoPE, (1, n) for the others; int64.
        visual: (N,) int64, where the placeholder of each prunable token stands, in the tokens' order.
    """

    input_ids: Tensor
    positions: Tensor
    visual: Tensor

    @property
    def n(self) -> int:
        return int(self.input_ids.shape[1])

    def keep(self, indices: Tensor) -> Prompt:
        """The same prompt with only the visual tokens `indices` (K,); what stays keeps its position."""
        stays = torch.ones(self.n, dtype=torch.bool)
        stays[self.visual] = False
        stays[self.visual[indices]] = True
        target = stays.cumsum(0) - 1  # (n,) place before pruning -> place after it
        return Prompt(self.input_ids[:, stays], self.positions[..., stays], target[self.visual[indices]])

    def compact(self, images: Tensor) -> Prompt:
        """The same prompt with positions renumbered without gaps; images: (N,) which image each visual token is of.

        With M-RoPE the rows that are left of an image are numbered from its first place on, and so are its columns, so
        both keep their order; what follows goes on after the larger of the two.
        """
        if self.positions.ndim == 2:
            return replace(self, positions=torch.arange(self.n)[None])
        image = torch.full((self.n,), -1)  # (n,) which image stands there, -1: text
        image[self.visual] = images
        positions, start = torch.empty_like(self.positions), 0
        for place in (image == -1).nonzero()[:, 0].tolist():
            image[place] = -2 - place  # every word by itself
        runs = image.unique_consecutive(return_inverse=True)[1]  # a clip may have words between its steps
        for run in range(int(runs.max()) + 1):
            here = runs == run
            ranks = [axis[0, here].unique(return_inverse=True)[1] for axis in self.positions]
            positions[:, 0, here] = start + torch.stack(ranks)
            start = int(positions[:, 0, here].max()) + 1
        return replace(self, positions=positions)


@dataclass(frozen=True)
class Sample:
    """One question about encoded images, with the tokens to keep and what was said before."""

    encoded: Encoded
    question: str
    kept: Kept = None
    history: Sequence[Turn] = ()
    positions: Positions = "original"


@dataclass(frozen=True)
class Chunk:
    """One generated token: its id, the whole text so far, seconds since the start; `finish` is set on the last one.

    trace: until where each visual token lived, where a plan said so.
    """

    token_id: int
    text_so_far: str
    seconds: float
    finish: Finish | None = None
    trace: Trace | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Answer:
    """A finished or cancelled answer.

    Attributes:
        ids: generated token ids, the end-of-turn token included.
        ttft_s: seconds to the first token (0 when cancelled before it), without the vision tower and the selection.
        prefill_tokens: length of the prompt: text and kept visual tokens.
        finished: the model ended its answer itself, rather than at `max_new_tokens`.
        cancelled: stopped through the `cancel` event.
        trace: until where each visual token lived, where a plan said so.
    """

    text: str
    ids: tuple[int, ...]
    ttft_s: float
    total_s: float
    prefill_tokens: int
    finished: bool
    cancelled: bool
    trace: Trace | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_chunks(cls, chunks: Sequence[Chunk], prefill_tokens: int) -> Answer:
        """What a stream of chunks, read to its end, amounts to. No chunk: cancelled before the first token."""
        last = chunks[-1] if chunks else Chunk(-1, "", 0.0)
        return cls(
            text=last.text_so_far,
            ids=tuple(chunk.token_id for chunk in chunks),
            ttft_s=chunks[0].seconds if chunks else 0.0,
            total_s=last.seconds,
            prefill_tokens=prefill_tokens,
            finished=last.finish == "stop",
            cancelled=last.finish is None,
            trace=last.trace,
        )


def entering(kept: Entering | Plan) -> Entering:
    """What enters the language model. Raises ValueError for a plan whose method has not chosen yet (`Plan.on`)."""
    if not isinstance(kept, Plan):
        return kept
    if kept.entry is not None:
        raise ValueError(f"the plan '{kept}' has not been made on these tokens: call `plan.on(tokens)`")
    return kept.entering


def kept_indices(kept: Entering | Plan, n: int) -> Tensor:
    """(K,) int64, ascending, on the CPU; None stands for all n. ValueError unless 1 <= K <= n, unique and in range.

    Of a plan, what enters the language model.
    """
    kept = entering(kept)
    if kept is None:
        return torch.arange(n)
    if isinstance(kept, Selection) and kept.n != n:
        raise ValueError(f"the selection is one of {kept.n} tokens, but there are {n}: select again for these images")
    flat = torch.as_tensor(kept.indices if isinstance(kept, Selection) else kept).cpu()
    if flat.ndim != 1 or flat.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"kept indices must be one row of integers, not shape {tuple(flat.shape)} of {flat.dtype}")
    unique = flat.unique().long()
    if unique.numel() == 0 or unique.numel() != flat.numel() or unique[0] < 0 or unique[-1] >= n:
        raise ValueError(
            f"kept indices must be 1 to {n} different numbers from 0 to {n - 1}: got {flat.numel()}, "
            f"{unique.numel()} of them different" + (f", from {unique[0]} to {unique[-1]}" if unique.numel() else "")
        )
    return unique


def check_positions(name: object) -> Positions:
    """The name, where it is one of POSITIONS; else ValueError."""
    for known in POSITIONS:
        if name == known:
            return known
    raise ValueError(f"positions {name!r} are not known: they must be one of {', '.join(POSITIONS)}")
