"""NaN and infinite numbers: refused where they first show, with what helps against them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pruning.models.values import ModelError
from pruning.ops.scaling import all_finite

AGAIN = "download the checkpoint again"


def check(tensors: Iterable[Tensor], who: str, model: Any) -> None:
    """Raise `refusal` unless all numbers are finite."""
    if not all(all_finite(tensor) for tensor in tensors if tensor.numel()):
        raise refusal(who, model)


def refusal(who: str, model: Any) -> ModelError:
    """The message for numbers that are no numbers. who: what of `model` gave them, such as "The vision tower"."""
    return ModelError(f"{who} gave NaN or infinite numbers in dtype {name(model.dtype)}: {remedy(model)}")


def remedy(model: Any) -> str:
    """What helps against them, by what the model is held in."""
    if getattr(model, "is_loaded_in_8bit", False):
        return f"8-bit layers compute in float16, which may be too narrow: load it with quantization none, or {AGAIN}"
    if model.dtype == torch.float16:
        return (
            "float16 ends at 65,504, which this model may exceed: load it with dtype bfloat16 or float32. Where that "
            f"gives the same, its weights are damaged, {AGAIN}."
        )
    return f"its weights are damaged, {AGAIN}"


def name(dtype: torch.dtype) -> str:
    """ "float16" rather than "torch.float16": as the options have it."""
    return str(dtype).removeprefix("torch.")
