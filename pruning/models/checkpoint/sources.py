"""Where a checkpoint comes from, a folder or the hub, and whether all of it is there. Nothing in it is ever run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pruning import assets
from pruning.models.checkpoint import adapters, hub
from pruning.models.checkpoint.damage import CONFIG, reading, unreadable
from pruning.models.values import ModelError

SHIPPED = assets.ROOT / "models" / "scenes-vlm"
NAMED = {"scenes": SHIPPED}
"""Models beside the code, by the short name that `--model` takes."""
WEIGHTS, PICKLES = "model.safetensors", "pytorch_model*.bin"
GGUF = (
    "GGUF file, which is for programs such as llama.cpp and not opened here: take the checkpoint that it was made "
    "from, with safetensors"
)
FLOATS = ("F16", "BF16", "F32", "F64")  # dtypes of tensors that are converted to the dtype asked for

Header = tuple[str, str, tuple[int, ...]]  # name, dtype and shape of a tensor


def checked(model_id: str | Path) -> Path | str:
    """The folder of a checkpoint, its weights complete; or the id of one on the hub, about which nothing is known yet.

    Raises:
        ModelError: neither a folder nor a possible id; a folder without configuration, weights or some shards, or with
            an adapter that cannot be applied.
        AssetError: the shipped model is missing.
    """
    folder = Path(named(model_id)).expanduser()
    if folder == SHIPPED:
        for name in ("config.json", WEIGHTS):
            assets.found("models", SHIPPED.name, name)
    if folder.is_dir():
        adapted = adapters.beside(folder)
        if (folder / "config.json").is_file():
            weight_files(folder)
        elif not adapted:
            raise ModelError(f"{folder} is no checkpoint: {_instead(folder)}")
        return folder
    if folder.exists():
        what = GGUF if folder.suffix == ".gguf" else "file: name the checkpoint's folder instead"
        raise ModelError(f"{folder} is a {what}")
    if str(model_id).startswith(("https://", "http://")):
        raise ModelError(f"{model_id} is an address: name the model by its id, OWNER/NAME")
    if isinstance(model_id, Path) or not hub.is_id(model_id):
        raise ModelError(f"{model_id} is neither a folder here nor a hub id such as {hub.EXAMPLE}")
    return model_id


def _instead(folder: Path) -> str:
    """What a folder without configuration holds in its place, and what helps."""
    names = {file.name for file in folder.iterdir()}
    if any(name.endswith(".gguf") for name in names):
        return f"it holds a {GGUF}"
    if "params.json" in names or any(name.startswith("consolidated") for name in names):
        return (
            "it has no config.json, and its weights are in its maker's own format: take the one that was converted for "
            "the model library"
        )
    if {"preprocessor_config.json", "tokenizer_config.json"} & names:
        return "it holds a processor alone, and no config.json: name the folder that has the model's weights, too"
    return "it has no config.json. Name the folder that has one."


def resolved(source: Path | str) -> tuple[Path | str, Path | None]:
    """The whole model behind what `checked` let through, and the folder of the adapter that goes on it, if any.

    What a repository of the hub holds is not asked here.

    Raises:
        ModelError: an adapter that cannot be applied, or the model that it is for is not to be had.
    """
    if isinstance(source, str):
        return source, None
    adapter = source if adapters.beside(source) else None
    return source if adapter is None or (source / "config.json").is_file() else base_model(source), adapter


def base_model(adapter: Path) -> Path | str:
    """The whole model that the adapter alone in a folder is for. ModelError: it is not to be had."""
    base = adapters.base_of(adapter)
    try:
        whole = checked(base)
    except ModelError as error:
        raise ModelError(f"{adapter} is an adapter, and the model that it is for is not here: {error}") from error
    if isinstance(whole, Path) and not (whole / "config.json").is_file():
        raise ModelError(f"{adapter} is an adapter for another adapter, {base}: {adapters.MERGE}")
    return whole


def adapter_headers(folder: Path) -> list[Header]:
    """What the adapter in a folder adds; empty where its weights are in the older pickle format."""
    file = folder / adapters.WEIGHTS[0]
    return list(headers(file)) if file.is_file() else []


def known_name(source: Path | str) -> str:
    """What people call a checkpoint: its hub id, in the hub's cache too, or its folder's name as they gave it."""
    if isinstance(source, str):
        return source
    folder = source.resolve()
    if folder.parent.name == "snapshots":  # …/models--OWNER--NAME/snapshots/HASH
        return folder.parents[1].name.removeprefix("models--").replace("--", "/")
    return (folder if source.name in ("", "..") else source).name or str(folder)


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
        if any(folder.glob("*.gguf")):
            raise ModelError(f"{folder}: its weights are a {GGUF}")
        raise ModelError(
            f"{folder} has a config.json but no weights (model.safetensors, or its shards with their index): download "
            "them into it"
        )
    return []


def weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> file name, from a shard index. ModelError where it cannot be read."""
    with reading(index.parent, "the index of its weights", (index.name,)):
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(found, dict) or not all(isinstance(name, str) and name for name in found.values()):
            raise ValueError("its weight_map does not give a file for each tensor")
    return dict(found)


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
    """The configuration, in the model library's own class; of a model that also speaks, that of its part that sees.

    Raises:
        ModelError: unreadable, unreachable, or of a kind that only code from its repository could read.
    """
    from transformers import AutoConfig

    folder = source if isinstance(source, Path) else hub.fetch(source, "config.json").parent
    with reading(folder, "its configuration", CONFIG):
        try:
            whole = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            return getattr(whole, "thinker_config", None) or whole
        except ValueError as error:
            if spelled := _spelled_otherwise(folder / "config.json"):
                raise ModelError(
                    f"{source}: its configuration is of a type {spelled[0]}, which the model library knows as "
                    f"{spelled[1]}: its files are older than that and made for code of their own, which is never run. "
                    "Take the checkpoint's newer revision, or one that was converted for the library"
                ) from error
            if _needs_code(folder / "config.json"):
                raise ModelError(
                    f"{source} needs code from its own repository, and such code is never run: choose a checkpoint "
                    "that the model library knows by itself (its name often ends in -hf)"
                ) from error
            raise


def _needs_code(file: Path) -> bool:
    return "auto_map" in _held(file)


def _spelled_otherwise(file: Path) -> tuple[str, str] | None:
    """The type in a configuration and how the library spells it; None where it is the same, or unknown there."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    said = str(_held(file).get("model_type", ""))
    known = {_plain(name): name for name in CONFIG_MAPPING_NAMES}.get(_plain(said))
    return (said, known) if known and known != said else None


def _plain(kind: str) -> str:
    return kind.lower().replace("-", "_")


def _held(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}
