"""Untrained modules of every kind, for methods that need one."""

from __future__ import annotations

from pathlib import Path

from pruning.models import VLM
from pruning.models.trained import KINDS, CoViPAL, DToP, save


def write_modules(vlm: VLM, folder: Path) -> Path:
    """One of each kind for this model, in a folder that `pruner` takes; returns it."""
    dim = int(vlm.config.get_text_config().hidden_size)
    made = (CoViPAL(dim, 8), DToP(dim, 3))
    assert {module.name for module in made} == set(KINDS)
    for module in made:
        save(module, folder, vlm.model, {})
    return folder
