"""Untrained modules of every kind, for methods that need one."""

from __future__ import annotations

from pathlib import Path

import torch

from pruning.models import VLM
from pruning.models.trained import KINDS, ATPLLaVA, CoViPAL, DToP, QTSplus, Trained, save


def modules(vlm: VLM) -> dict[str, Trained]:
    """One of each kind for this model, by name."""
    dim = int(vlm.config.get_text_config().hidden_size)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        kinds = (CoViPAL(dim, 8), DToP(dim, 3), ATPLLaVA(dim, 3, 4), QTSplus(dim, 4, 2, 6))
        made = {module.name: module.eval() for module in kinds}
    assert made.keys() == KINDS.keys()
    return made


def equipped(vlm: VLM) -> VLM:
    """The same model with one of each kind."""
    return vlm.beside(modules(vlm))


def write_modules(vlm: VLM, folder: Path) -> Path:
    """One of each kind for this model, in a folder that `pruner` takes; returns it."""
    for module in modules(vlm).values():
        save(module, folder, vlm.model, {})
    return folder
