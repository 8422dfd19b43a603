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
    covipal                 (N,)       scores of CoViPAL's trained module, of tokens and question
    dtop                    (N, C)     logits of the classes that a trained head tells tokens apart by
    qtsplus                 (N, 2)     relevance to the question, by a trained module; and, the same in every row, the
                                       share of the tokens that it would keep
    question                (M, D)     embeddings of the question's content words
    tower                   a function, `Tower`: the features of a picture once tokens have left between vision layers
    projector               a function, offset (C,) float32 -> (N, D) float32: the features as they would be with
                            `offset` added to every patch before the projector; offset 0 gives the features

Methods compare tokens by their features and by the kinds in COMPARED: `VisualTokens` keeps those similarities.
A token that stands for several patches gets their mean. L counts vision layers from 0, or from the end where negative;
-1 is the last layer that sees the whole picture. Values are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
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
    "covipal": "(N,)",
    "dtop": "(N, C)",
    "qtsplus": "(N, 2)",
    "question": "(M, D)",
}
ASKING = frozenset({"covipal", "qtsplus", "question"})
"""Those that another question changes."""
LATER = ASKING | {"scorer", "dtop"}
"""Those that follow from the encoded tokens and the question, without the vision tower."""
COMPARED = frozenset({"pre_projector", "vision_keys"})
FUNCTIONS = frozenset({"projector", "tower"})
"""Those that are functions of the model: they stay in the process that holds it."""


@dataclass(frozen=True, eq=False)
class Flow:
    """What a vision layer did with the n tokens of a picture that are alive, float32.

    left: further layers after which tokens may leave. attention: (n,) from CLS, or received as `vision_attention`.
    values: (n, H, d). cls: (H, d), the value of the CLS token; None where the tower has none.
    """

    left: int
    attention: Tensor
    values: Tensor
    cls: Tensor | None


Rule = Callable[[Flow], Tensor]  # (k,) int64 ascending: which of the n stay, at least one


@dataclass(frozen=True, eq=False)
class Tower:
    """The vision tower run once more over pictures, tokens leaving between its layers.

    run: (picture, rule) -> (k, D) float32, what the language model would receive of the tokens that the rule leaves, in
    their order. The rule is asked after every layer but those that make the features of what is left. counts: tokens of
    each picture, in the order of all N. first: the number that `run` has for the first of them.
    """

    run: Callable[[int, Rule], Tensor]
    counts: tuple[int, ...]
    first: int = 0

    def __call__(self, picture: int, rule: Rule) -> Tensor:
        return self.run(self.first + picture, rule)

    def part(self, tokens: slice) -> Tower:
        """For whole pictures alone."""
        starts = list(accumulate(self.counts, initial=0))[:-1]
        mine = [i for i, start in enumerate(starts) if tokens.start <= start < tokens.stop]
        return replace(self, counts=tuple(self.counts[i] for i in mine), first=self.first + mine[0])


def part_of_signal(name: str, value: Any, part: slice) -> Any:
    """The signal as the tokens of `part` alone would have it."""
    kind = name.partition("@")[0]
    if kind == "question":
        return value
    if kind == "tower":
        return value.part(part)
    if kind == "projector":
        return lambda offset: value(offset)[part]
    return value[part, part] if kind == "vision_attention_map" else value[part]


def joined_signal(name: str, parts: Sequence[Any]) -> Any:
    """The signal of several samples, one behind the other, as that of one: the inverse of `part_of_signal`."""
    kind = name.partition("@")[0]
    if kind == "question" or len(parts) == 1:
        return parts[0]
    if kind == "tower":
        pictures = [(part, i) for part in parts for i in range(len(part.counts))]
        counts = tuple(count for part in parts for count in part.counts)
        return Tower(lambda picture, rule: pictures[picture][0](pictures[picture][1], rule), counts)
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
    if kind == "tower":
        if not isinstance(value, Tower) or sum(value.counts) != n:
            raise ValueError(f"{asked_by}: signal {name!r} must be a Tower of {n} tokens, not {type(value).__name__}")
        return
    if kind not in SHAPES:
        raise ValueError(f"{asked_by}: unknown signal {name!r}; known: {', '.join([*SHAPES, *sorted(FUNCTIONS)])}")
    sizes = SHAPES[kind].strip("(),").split(", ")
    wanted = [{"N": n, "D": width}.get(size, int(size) if size.isdigit() else None) for size in sizes]
    shape = tuple(value.shape) if isinstance(value, Tensor) else ()
    fits = len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))
    if not fits or 0 in shape:
        rule = SHAPES[kind].replace("N", str(n)).replace("D", str(width))
        raise ValueError(f"{asked_by}: signal {name!r} has shape {shape} but must be {rule}")
    if not all_finite(value):
        raise ValueError(f"{asked_by}: signal {name!r} {shape} holds NaN or infinite values")
