"""The most memory held while something ran: of the GPU, or of the process where the system can tell."""

from __future__ import annotations

import re
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # what Linux takes for: begin the high-water mark anew


def begin(device: torch.device) -> bool:
    """Forget what was held before. False where it cannot be told."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def peak_bytes(device: torch.device) -> int | None:
    """Bytes held at most since `begin`, weights among them; None where it cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.is_file() else None
    return int(found[1]) * 1024 if found else None
