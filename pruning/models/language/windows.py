"""Layers that see a window of the last tokens alone."""

from __future__ import annotations

from typing import Any


def window_of(layer: Any) -> int | None:
    """How many tokens back a layer sees; None where it sees all."""
    attention: Any = getattr(layer, "self_attn", None)
    return int(attention.sliding_window) if getattr(attention, "is_sliding", False) else None


def takes_masks(model: Any) -> bool:
    """Whether the attention kernel takes a mask of pairs; the others count windows themselves."""
    return (model.config._attn_implementation or "") in ("sdpa", "eager")
