"""What to do where a GPU has no room for an N×N matrix: the host selects, from the features, without one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def spilling(rule: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """A rule that makes a matrix on other devices than the CPU, and none there. Out of memory it runs on the CPU; the
    picks come back to the device. Same picks, but where two scores are within 1e-6.
    """

    @functools.wraps(rule)
    def spilled(*args: P.args, **named: P.kwargs) -> Tensor:
        try:
            return rule(*args, **named)
        except torch.OutOfMemoryError:
            devices = [value.device for value in args if isinstance(value, Tensor) and value.device.type != "cpu"]
            if not devices:
                raise
            here = [value.cpu() if isinstance(value, Tensor) else value for value in args]
            named_here = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in named.items()}
        return rule(*here, **named_here).to(devices[0])  # type: ignore[arg-type]

    return spilled
