"""Everything a method may ask of the model by name, one list for all methods and all model adapters.

    scorer                  (N,)       learned importance, raw
    vision_attention@L      (N,)       attention from CLS to the token in vision layer L; where the tower has no CLS,
                                       attention received: mean over heads, sum over the queries of the same picture
    vision_attention_map@L  (N, N)     mean over heads, row = the token that attends; rows sum to at most 1 (a CLS token
                                       takes its share), 0 between different pictures and tiles
    vision_keys@L           (N, H, d)  keys of the H heads as the layer uses them (rotated, where it rotates)
    vision_values@L         (N, H, d)  values of the H heads
    pre_projector           (N, C)     features before the projector / merger
    patch_entropy           (N,)       grey-level entropy of the pixels under the token, in bits (256 levels)
    question                (M, D)     embeddings of the question's content words
    projector               a function, offset (C,) float32 -> (N, D) float32: the features as they would be with
                            `offset` added to every patch before the projector; offset 0 gives the features

Methods compare tokens by their features and by the kinds in COMPARED: `VisualTokens` keeps those similarities.
A token that stands for several patches gets their mean. L counts vision layers from 0, or from the end where negative;
-1 is the last layer that sees the whole picture. Values are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pruning.ops.scaling import all_finite

SHAPES: dict[str, str] = {
    "scorer": "(N,)",
    "vision_attention": "(N,)",
    "vision_attention_map": "(N, N)",
    "vision_keys": "(N, H, d)",
    "vision_values": "(N, H, d)",
    "pre_projector": "(N, C)",
    "patch_entropy": "(N,)",
    "question": "(M, D)",
}
COMPARED = frozenset({"pre_projector", "vision_keys"})


def part_of_signal(name: str, value: Any, part: slice) -> Any:
    """The signal as the tokens of `part` alone would have it."""
    kind = name.partition("@")[0]
    if kind == "question":
        return value
    if kind == "projector":
        return lambda offset: value(offset)[part]
    return value[part, part] if kind == "vision_attention_map" else value[part]


def joined_signal(name: str, parts: Sequence[Any]) -> Any:
    """The signal of several samples, one behind the other, as that of one: the inverse of `part_of_signal`."""
    kind = name.partition("@")[0]
    if kind == "question" or len(parts) == 1:
        return parts[0]
    if kind == "projector":
        return lambda offset: torch.cat([part(offset) for part in parts])
    return torch.block_diag(*parts) if kind == "vision_attention_map" else torch.cat(list(parts))


def check_signal(asked_by: str, name: str, value: Any, n: int, width: int) -> None:
    """Raise ValueError, naming method, signal and shape, unless a signal has its shape and only finite values.

    n: number of tokens; width: D, of the language model.
    """
    kind = name.partition("@")[0]
    if kind == "projector":
        if not callable(value):
            raise ValueError(f"{asked_by}: signal {name!r} must be a function, not {type(value).__name__}")
        return
    if kind not in SHAPES:
        raise ValueError(f"{asked_by}: unknown signal {name!r}; known signals: {', '.join([*SHAPES, 'projector'])}")
    sizes = SHAPES[kind].strip("(),").split(", ")
    wanted = [{"N": n, "D": width}.get(size) for size in sizes]
    shape = tuple(value.shape) if isinstance(value, Tensor) else ()
    fits = len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))
    if not fits or 0 in shape:
        rule = SHAPES[kind].replace("N", str(n)).replace("D", str(width))
        raise ValueError(f"{asked_by}: signal {name!r} has shape {shape} but must be {rule}")
    if not all_finite(value):
        raise ValueError(f"{asked_by}: signal {name!r} {shape} holds NaN or infinite values")
