"""Whether the inside of an unknown tower is what signals and geometry take it for. Nothing here raises a refusal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isqrt
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from pruning.models.signals.attention import LayerAttention, capture
from pruning.models.vlm import VLM

# (N,) bool, which tokens see a mark, and the blank picture that has it
Marked = Sequence[tuple[Tensor, Image.Image]]
CLOSE = 0.05  # relative error that half precision explains
LOCAL = "vision_values@0"  # no place has seen another before the first layer attends


def is_understood(vlm: VLM, blank: Image.Image, marked: Marked) -> bool:
    """Attention formed from what a layer was given is the layer's own; every token stands for a square of patches;
    a mark changes what enters the tower for the token that it lies under, more than for any other.

    Learns how many patches make a token.
    """
    family = vlm.family
    ends = {0: family.attentions[0], -1: family.attentions[-1]}
    outputs = {("output", end): _output_layer(module) for end, module in ends.items()}
    with capture({**ends, **outputs}) as seen:
        encoded = vlm.encode([blank])
    for end, module in ends.items():
        made = LayerAttention(module, seen[end], family.cls).output()
        if _gap(made, seen["output", end].hidden.float().reshape(made.shape)) > CLOSE:
            return False
    rows = encoded.tokens.n + (0 if encoded.marks is None else len(encoded.marks))
    patches = made.shape[0] * (made.shape[1] - family.cls)
    family.merge = isqrt(patches // rows)
    if family.merge**2 * rows != patches:
        return False
    before = vlm.encode([blank], frozenset({LOCAL})).tokens.signal(LOCAL)
    for over, picture in marked:
        moved = vlm.encode([picture], frozenset({LOCAL})).tokens.signal(LOCAL) - before
        if not bool(over[moved.flatten(1).norm(dim=1).argmax()]):
            return False
    return True


def projects_again(vlm: VLM, blank: Image.Image) -> bool:
    """Called again as it was called, the projector gives the features, and it was given something for each token."""
    tokens = vlm.encode([blank], frozenset({"pre_projector", "projector"})).tokens
    given: Tensor = tokens.signal("pre_projector")
    features = tokens.signal("projector")(torch.zeros(given.shape[1]))
    return len(given) == tokens.n and _gap(features, tokens.features) < CLOSE


@contextmanager
def silence(attentions: Sequence[nn.Module]) -> Iterator[None]:
    """While open, these attention modules give zeros: no place of the tower learns of another."""

    def quiet(_module: nn.Module, _given: Any, made: Any) -> Any:
        return torch.zeros_like(made) if isinstance(made, Tensor) else (torch.zeros_like(made[0]), *made[1:])

    handles = [attention.register_forward_hook(quiet) for attention in attentions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def reduce_to(vlm: VLM, *, tower: bool, projector: bool) -> None:
    """Capabilities only the signals of what is known."""
    if not tower:
        vlm.family.attentions, vlm.family.cls = [], 0
    if not projector:
        vlm.family.projector = None
    vlm.__dict__.pop("signals", None)  # to be told anew


def _output_layer(attention: nn.Module) -> nn.Module:
    """The one linear layer of an attention module that is no query, key or value: called with the heads' output."""
    inputs = ("qkv", "q_proj", "k_proj", "v_proj")
    (found,) = [m for name, m in attention.named_children() if isinstance(m, nn.Linear) and name not in inputs]
    return found


def _gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
