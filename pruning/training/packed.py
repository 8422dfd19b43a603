"""A training run in a few megabytes: the weights of its stages in half precision, without the optimisers' state.

Small enough to be kept beside the code, so that a long training on a small machine survives the machine. Going on from
it is not bit-equal to a run that never stopped: the optimisers' running means begin afresh.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch

STAGES: Final = ("vision", "language", "joint", "sparse", "scorer")
FILE: Final = "weights.safetensors"


def pack(folder: Path, out: Path) -> dict[str, int]:
    """Write what `folder` has of each stage to `out`; returns the steps done of each.

    Raises FileNotFoundError where there is no checkpoint.
    """
    from safetensors.torch import save_file

    weights: dict[str, torch.Tensor] = {}
    steps: dict[str, int] = {}
    for stage in STAGES:
        if not (folder / f"{stage}.pt").exists():
            continue
        state: dict[str, Any] = torch.load(folder / f"{stage}.pt", map_location="cpu", weights_only=True)
        steps[stage] = int(state["step"])
        for part in set(state) - {"step", "opts"}:
            for name, value in state[part].items():
                weights[f"{stage}/{part}/{name}"] = value.half().contiguous().clone()
    if not steps:
        raise FileNotFoundError(f"{folder} has no checkpoint of any stage: {', '.join(STAGES)}")
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / FILE)
    (out / "steps.json").write_text(json.dumps(steps) + "\n", encoding="utf-8")
    return steps


def unpack(packed: Path, folder: Path) -> dict[str, int]:
    """Write checkpoints to `folder` that the stages go on from; returns the steps done of each.

    Raises FileNotFoundError where `packed` holds no packed run, ValueError where `folder` has got further already.
    """
    from safetensors.torch import load_file

    if not (packed / FILE).exists():
        raise FileNotFoundError(f"{packed} holds no packed run: {FILE} is not there")
    there = [stage for stage in STAGES if (folder / f"{stage}.pt").exists()]
    if there:
        raise ValueError(f"{folder} has a run of its own ({', '.join(there)}): name an empty folder with --folder")
    steps: dict[str, int] = json.loads((packed / "steps.json").read_text("utf-8"))
    parts: dict[str, dict[str, dict[str, torch.Tensor]]] = {}
    for key, value in load_file(packed / FILE).items():
        stage, part, name = key.split("/", 2)
        parts.setdefault(stage, {}).setdefault(part, {})[name] = value.float()
    folder.mkdir(parents=True, exist_ok=True)
    for stage, state in parts.items():
        torch.save({"step": steps[stage], "opts": [], **state}, folder / f"{stage}.pt")
    return steps
