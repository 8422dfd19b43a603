"""Adapters (LoRA and its kin): beside a checkpoint's weights, or alone in a folder that names the model it is for.

An adapter is part of what a checkpoint answers. So it is applied, by the package peft, or the checkpoint is refused:
never an answer that depends on what happens to be installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pruning.models import hub
from pruning.models.damage import reading
from pruning.models.values import ModelError

SETTINGS, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
MARKS = ("lora_", ".base_layer.", ".modules_to_save.", ".original_module.", "base_model.model.")  # in peft's names
MERGE = "merge it into its model where peft is installed (`merge_and_unload`, `save_pretrained`) and name that folder"


def available() -> bool:
    """Whether peft is installed."""
    from transformers.utils import is_peft_available

    return bool(is_peft_available())


def beside(folder: Path) -> bool:
    """Whether a folder holds an adapter, and all of it. Raises ModelError where it cannot be applied."""
    return _check(folder, [file.name for file in folder.iterdir()])


def check_listed(model_id: str) -> None:
    """Raise ModelError where a repository of the hub holds an adapter that cannot be applied, before it is fetched."""
    _check(model_id, list(hub.sizes(model_id)))


def on_hub(model_id: str) -> bool:
    """Whether a repository of the hub is an adapter alone. ModelError where it is, and cannot be applied."""
    if hub.has(model_id, "config.json") or not hub.has(model_id, SETTINGS):
        return False
    return _check(model_id, [SETTINGS, WEIGHTS[0]])


def base_of(folder: Path) -> str:
    """The folder or hub id of the model that an adapter is for, as its settings name it. ModelError: they do not."""
    with reading(folder, "the settings of its adapter", (SETTINGS,)):
        named = json.loads((folder / SETTINGS).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not isinstance(named, str) or not named.strip():
        raise ModelError(f"{folder} is an adapter, and its {SETTINGS} does not say for which model: {MERGE}")
    return named


def apply(model: Any, folder: Path) -> None:
    """Put a folder's adapter on a loaded model. ModelError: not one for this model, or of a kind that peft refuses."""
    with reading(folder, "its adapter", (SETTINGS, *WEIGHTS[:1])):
        report = model.load_adapter(str(folder))
    faulty = sorted({*report.missing_keys, *report.unexpected_keys, *(name for name, *_ in report.mismatched_keys)})
    if faulty:
        raise ModelError(
            f"{folder}: {len(faulty)} tensors of the adapter are missing or do not fit the model, {faulty[0]} among "
            f"them: it is incomplete, or for another model. Take the model that it was trained on, or {MERGE}."
        )


def _check(source: Path | str, names: list[str]) -> bool:
    there = [name for name in names if name in (SETTINGS, *WEIGHTS)]
    if not there:
        return False
    half = SETTINGS if SETTINGS not in there else WEIGHTS[0] if there == [SETTINGS] else ""
    if half:
        raise ModelError(
            f"{source} holds half of an adapter: {there[0]} without {half}. Copy that file into it; or, for the model "
            f"without the adapter, take {there[0]} out."
        )
    if not available():
        whole = "config.json" in names
        raise ModelError(
            f"{source} {'holds an adapter beside its weights' if whole else 'is an adapter, not a whole model'}, and "
            f"the package that applies adapters is not installed: `pip install peft`, or {MERGE}"
            f"{'; for the model without it, take the adapter_… files out' if whole else ''}"
        )
    return True
