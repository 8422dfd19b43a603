"""What the stages share: optimisers, the one-cycle rate, checkpoints that a stopped run goes on from."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


def multiplies_in_bfloat16() -> bool:
    """Whether oneDNN has such products for this processor; without, PyTorch goes through scalars."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def mixed(device: torch.device) -> torch.autocast:
    """Products in bfloat16, but on a CPU that has none of its own.

    There one of 1,024 × 256 × 1,024 took 55 times as long as in float32 (AVX2).
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or multiplies_in_bfloat16())


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates for matrices, in float32, matrices of one shape batched.

    Ours, because `torch.optim.Muon` orthogonalises in bfloat16, one matrix at a time: at the shipped model's widths
    that takes 0.27 s a matrix on a CPU, more than the step itself. Update scaled as there (`match_rms_adamw`).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update from the gradients; `closure` is ignored."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    past = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    past.lerp_(p.grad, 1 - group["momentum"])
                    alike.setdefault(p.shape, []).append((p, p.grad.lerp(past, group["momentum"])))
            for shape, pairs in alike.items():
                scale = 0.2 * max(shape) ** 0.5 * group["lr"]
                updates = _orthogonal(torch.stack([mixed for _, mixed in pairs]))
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=scale)


def _orthogonal(g: Tensor) -> Tensor:
    """(M, A, B) -> nearest semi-orthogonal matrices, by five Newton-Schulz steps (Jordan et al., 2024)."""
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x.transpose(1, 2) if tall else x


def optimizers(parts: Sequence[nn.Module], rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for embeddings, norms, biases and everything named like a head."""
    matrices: list[Tensor] = []
    others: dict[int, Tensor] = {}
    for part in parts:
        for name, p in part.named_parameters():
            if not p.requires_grad or id(p) in others:
                continue
            if p.ndim == 2 and "embed" not in name and "head" not in name:
                matrices.append(p)
            else:
                others[id(p)] = p
    return [
        Muon(matrices, lr=rate),
        torch.optim.AdamW(list(others.values()), lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def set_rate(opts: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Give every group the same learning rate."""
    for opt in opts:
        for group in opt.param_groups:
            group["lr"] = rate


def update(parts: Iterable[nn.Module], opts: Iterable[torch.optim.Optimizer]) -> None:
    """One step of every optimiser on the clipped gradients, which are gone afterwards."""
    nn.utils.clip_grad_norm_([p for part in parts for p in part.parameters()], 1.0)
    for opt in opts:
        opt.step()
        opt.zero_grad(set_to_none=True)


def one_cycle(step: int, steps: int, peak: float, warmup: int = 60) -> float:
    """Linear up over `warmup` steps, cosine down to a fiftieth of `peak` at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return peak * (0.02 + 0.49 * (1 + math.cos(math.pi * min(done, 1.0))))


def save(file: Path, step: int, parts: dict[str, nn.Module], opts: Sequence[torch.optim.Optimizer]) -> None:
    """Write a checkpoint beside the old one, then swap: a stop in the middle loses nothing."""
    state = {"step": step, "opts": [o.state_dict() for o in opts], **{k: m.state_dict() for k, m in parts.items()}}
    fresh = file.with_suffix(".new")
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, fresh)
    os.replace(fresh, file)


class Keeper:
    """Saves every `every` steps, every `minutes`, and at the end of a stage."""

    def __init__(
        self,
        file: Path,
        parts: dict[str, nn.Module],
        opts: Sequence[torch.optim.Optimizer],
        every: int = 100,
        minutes: float = 4,
    ) -> None:
        self.file, self.parts, self.opts, self.every, self.minutes = file, parts, opts, every, minutes
        self.saved = time.monotonic()

    def step(self, done: int, last: bool = False) -> None:
        """`done` steps are done; `last`: the stage ends here."""
        if last or done % self.every == 0 or time.monotonic() - self.saved > 60 * self.minutes:
            save(self.file, done, self.parts, self.opts)
            self.saved = time.monotonic()


def restore(file: Path, parts: dict[str, nn.Module], opts: Sequence[torch.optim.Optimizer] = ()) -> int:
    """Load a checkpoint where there is one. Returns the step to go on from, 0 where there is none."""
    if not file.exists():
        return 0
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    for key, part in parts.items():
        part.load_state_dict(state[key])
    for opt, saved in zip(opts, state["opts"], strict=False):
        opt.load_state_dict(saved)
    return int(state["step"])


class Progress:
    """Logs the running means every `every` steps, with seconds a step and the time that is left."""

    def __init__(self, stage: str, start: int, steps: int, every: int = 25) -> None:
        self.stage, self.first, self.steps, self.every = stage, start, steps, every
        self.begun = time.perf_counter()
        self.sums: dict[str, list[float]] = {}

    def add(self, step: int, **values: float) -> None:
        """Take in one step's values."""
        for name, value in values.items():
            if value == value:
                self.sums.setdefault(name, []).append(value)
        if (step + 1) % self.every == 0:
            pace = (time.perf_counter() - self.begun) / (step + 1 - self.first)
            means = "  ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in self.sums.items())
            left = pace * (self.steps - step - 1) / 60
            log.info("%s %d/%d  %s  %.2f s/step, %.0f min left", self.stage, step + 1, self.steps, means, pace, left)
            self.sums.clear()
