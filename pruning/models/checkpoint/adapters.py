"""Adapters (LoRA and its kin): beside a checkpoint's weights, or alone in a folder that names the model it is for.

An adapter is part of what a checkpoint answers. So it is applied, by the package peft, or the checkpoint is refused:
never an answer that depends on what happens to be installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pruning.models.checkpoint import hub
from pruning.models.checkpoint.damage import reading
from pruning.models.checkpoint.refusals import AbsentError
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


def fetched(model_id: str, error: ModelError) -> Path:
    """The folder of a repository that is an adapter alone, downloaded.

    Raises:
        ModelError: an adapter that cannot be applied; `error`, why it is no whole model, where it is no adapter either.
    """
    try:
        hub.fetch(model_id, SETTINGS)
    except AbsentError:
        raise error from None
    _check(model_id, [SETTINGS, WEIGHTS[0]])
    folder = hub.download(model_id, None)
    beside(folder)
    return folder


def base_of(folder: Path) -> str:
    """The folder or hub id of the model that an adapter is for, as its settings name it. ModelError: they do not."""
    with reading(folder, "the settings of its adapter", (SETTINGS,)):
        named = json.loads((folder / SETTINGS).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not isinstance(named, str) or not named.strip():
        raise ModelError(f"{folder} is an adapter, and its {SETTINGS} does not say for which model: {MERGE}")
    return named


def apply(model: Any, folder: Path) -> None:
    """Put a folder's adapter on a loaded model. ModelError: not one for this model, or of a kind that peft refuses."""
    with reading(folder, "the settings of its adapter", (SETTINGS,)):
        kind = json.loads((folder / SETTINGS).read_text(encoding="utf-8")).get("peft_type")
    try:
        report = model.load_adapter(str(folder))
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of peft, of the model library, of what reads the files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{folder}: its adapter ({kind}) cannot be applied ({reason}): {MERGE}") from error
    faulty = sorted({*report.missing_keys, *report.unexpected_keys, *(name for name, *_ in report.mismatched_keys)})
    if faulty:
        raise ModelError(
            f"{folder}: {len(faulty)} tensors of the adapter ({kind}) are missing or fit nothing in the model, "
            f"{faulty[0]} for one: it is incomplete, for another model, or of a kind that the model library does not "
            f"load: {MERGE}"
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
