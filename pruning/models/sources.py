"""Where a checkpoint comes from, a folder or the hub, and whether all of it is there. Nothing in it is ever run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pruning.models import hub
from pruning.models.values import ModelError

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "models" / "scenes-vlm"
NAMED = {"scenes": SHIPPED}
"""Models beside the code, by the short name that `--model` takes."""
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
WEIGHTS, PICKLES = "model.safetensors", "pytorch_model*.bin"

Header = tuple[str, str, tuple[int, ...]]  # name, dtype and shape of a tensor


def checked(model_id: str | Path) -> Path | str:
    """The folder of a checkpoint, its weights complete; or the id of one on the hub, about which nothing is known yet.

    Raises:
        ModelError: neither a folder nor a possible id; a folder without configuration, weights or some shards.
    """
    folder = Path(named(model_id)).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is no checkpoint: it has no config.json. Name the folder that has one.")
        weight_files(folder)
        return folder
    if folder.exists():
        raise ModelError(f"{folder} is a file: name the checkpoint's folder instead")
    if isinstance(model_id, Path) or not HUB_ID.fullmatch(model_id):
        raise ModelError(
            f"{model_id} is neither a folder here nor a hub id such as Qwen/Qwen2.5-VL-3B-Instruct: check the spelling"
        )
    return model_id


def named(model_id: str | Path) -> str | Path:
    """The folder of a model beside the code, where `model_id` is its short name and no folder here; else as given."""
    known = isinstance(model_id, str) and model_id in NAMED and not Path(model_id).is_dir()
    return NAMED[str(model_id)] if known else model_id


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint; empty where its weights are in the older pickle format.

    Raises:
        ModelError: no weights, or shards that the index names and the folder lacks.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    for index in (folder / f"{WEIGHTS}.index.json", folder / "pytorch_model.bin.index.json"):
        if index.is_file():
            files = [folder / name for name in sorted(set(weight_map(index).values()))]
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise ModelError(
                    f"{folder}: {len(missing)} of {len(files)} files of weights are missing: "
                    f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}. Download them into it."
                )
            return [file for file in files if file.suffix == ".safetensors"]
    if not any(folder.glob(PICKLES)):
        raise ModelError(
            f"{folder} has a config.json but no weights (model.safetensors, or its shards with their index): download "
            "them into it"
        )
    return []


def weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> file name, from a shard index. ModelError where it cannot be read."""
    try:
        found: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError) as error:
        raise unreadable(index.parent, f"{index.name}, the index of its weights,", error) from error
    return found


def headers(file: Path) -> Iterator[Header]:
    """What a safetensors file holds; of the weights themselves nothing is read. ModelError where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                part = opened.get_slice(name)
                yield name, part.get_dtype(), tuple(part.get_shape())
    except (OSError, SafetensorError) as error:
        raise unreadable(file.parent, f"{file.name}, a file of its weights,", error) from error


def config(source: Path | str) -> Any:
    """The configuration, in the model library's own class.

    Raises:
        ModelError: unreadable, unreachable, or of a kind that only code from its repository could read.
    """
    from transformers import AutoConfig

    folder = source if isinstance(source, Path) else hub.fetch(source, "config.json").parent
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ValueError) and _needs_code(folder / "config.json"):
            raise ModelError(
                f"{source} needs code from its own repository, and such code is never run: choose a checkpoint that "
                "the model library knows by itself (its name often ends in -hf)"
            ) from error
        raise unreadable(source, "its configuration", error) from error


def unreadable(source: Path | str, what: str, error: Exception) -> ModelError:
    """The message for a part of a checkpoint that is there but damaged."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(f"{source}: {what} cannot be read ({reason}). Copy or download the checkpoint again.")


def _needs_code(file: Path) -> bool:
    try:
        return "auto_map" in json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
