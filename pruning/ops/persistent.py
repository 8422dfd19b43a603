"""The greedy loop of MMR as one kernel that stays on the GPU: an instance for each λ, without a launch for each pick.

Each instance keeps the N running maxima in registers, and reads one row of the similarity for each pick. Needs Triton,
which PyTorch brings with its CUDA and ROCm builds, and a GPU that it compiles for. Elsewhere `device_loops` picks the
same with some launches for each pick.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor

LOG = logging.getLogger("idpruner.ops")
LARGEST = 1 << 14  # tokens: beyond, an instance's maxima do not fit the registers of one of the GPU's processors
WARP = 512  # tokens that a warp of 32 threads has
_refused: set[torch.device] = set()  # GPUs for which it does not compile


def serves(relevance: Tensor) -> bool:
    """Whether the kernel may be tried for (L, N) float32 on this device."""
    device = relevance.device
    return device.type == "cuda" and device not in _refused and relevance.shape[-1] <= LARGEST and _installed()


def refused(device: torch.device, error: Exception) -> None:
    """It failed on this device, where it is not tried again."""
    _refused.add(device)
    LOG.warning(
        "no kernel for the greedy loop on %s (%s): it takes launches for each pick", device, type(error).__name__
    )


def greedy_mmr(relevance: Tensor, penalty: Tensor, similarity: Tensor, first: Tensor, k: int) -> Tensor:
    """relevance (L, N), penalty (L, 1) or (L, N), similarity (N, N), all float32; first () -> (L, k) int64 picks.

    Same arithmetic, rounding and ties as `device_loops.greedy_mmr`. Raises what Triton raises where it cannot compile.
    """
    lanes, n = relevance.shape
    order = torch.empty(lanes, k, dtype=torch.int64, device=relevance.device)
    block = 1 << max(4, (n - 1).bit_length())
    warps = min(32, max(4, block // WARP))
    weights = penalty.expand(lanes, n).contiguous()
    # Two roundings, product and difference, as on the CPU: a fused multiply-add would move near ties.
    _kernel()[(lanes,)](
        relevance.contiguous(), weights, similarity.contiguous(), first, order, n, k,
        BLOCK=block, num_warps=warps, enable_fp_fusion=False,
    )  # fmt: skip
    return order


@cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


@cache
def _kernel() -> Any:
    """The kernel; Triton reads its source, and knows no names but those of its own module."""
    from pruning.ops.persistent_kernel import greedy

    return greedy
