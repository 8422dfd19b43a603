"""Which device, dtype and precision to take: the names that users give, checked."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTIZATIONS = ("none", "8bit", "4bit")
ATTENTIONS = ("auto", "sdpa", "eager", "flash_attention_2")
DEVICE_MAPS = ("", "auto", "balanced", "balanced_low_0", "sequential")


def choose_device(device: str = "auto") -> torch.device:
    """ "auto" -> cuda, mps or cpu, whichever is there first. ValueError for an unknown or absent device."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}: use auto, cpu, mps, cuda or cuda:N") from error
    there = {"cpu": 1, "mps": int(mps), "cuda": torch.cuda.device_count() if cuda else 0}.get(chosen.type, 0)
    if (chosen.index or 0) >= there:
        raise ValueError(f"device {device!r} is not available on this machine: use auto, or cpu")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" -> bfloat16 on cuda, else float32. ValueError for anything but auto and the three float types."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: use auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """ValueError, naming what is allowed, for an option's value that is not."""
    if value not in allowed:
        words = ", ".join(word for word in allowed if word)
        raise ValueError(f"unknown {name} {value!r}: use {'nothing or one of ' if '' in allowed else ''}{words}")
