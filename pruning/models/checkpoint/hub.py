"""The hub: what a repository holds, its download with progress, and its errors in plain words.

Works without the network as far as the hub's cache reaches; `HF_HUB_OFFLINE=1` forbids the network.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from pruning.debris import TWIN, is_debris
from pruning.models.checkpoint.progress import Progress, byte_bar
from pruning.models.values import ModelError

TEXTS = ("*.json", "*.jinja", "*.txt", "*.model")
# Subfolders, the same weights in a format of their maker, and what a file system leaves.
NOT_READ = ("*/*", "consolidated*", f"{TWIN}*")
EXAMPLE = (
    "Qwen/Qwen2.5-VL-3B-Instruct, OWNER/NAME in plain letters, digits, single '-', '_' and '.', none of '-' and '.' at "
    "an end: check the spelling"
)


class AbsentError(ModelError):
    """A repository is there and has no such file."""


def is_id(name: str) -> bool:
    """Whether the hub could have a model of this name: an owner and a name, by the hub's own rules."""
    from huggingface_hub import errors, utils

    try:
        utils.validate_repo_id(name)  # type: ignore[attr-defined]
    except errors.HFValidationError:
        return False
    return all(part.strip("-.") == part for part in name.split("/")) and "/" in name


def fetch(model_id: str, name: str) -> Path:
    """One small file of a repository, from the cache where it is there. ModelError as `explained` words it."""
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(model_id, name))
    except Exception as error:  # whatever the client, or the HTTP library under it, raises
        raise explained(model_id, name, error) from error


def sizes(model_id: str) -> dict[str, int]:
    """File name -> bytes of a repository's files; empty where the hub does not say."""
    try:
        return _listing(model_id)
    except Exception:  # not knowing is no error here: the download says what is wrong
        return {}


def names(model_id: str, known: Sequence[str]) -> list[str]:
    """Names of a repository's files; where the hub cannot be asked, those of `known` that its cache here holds.

    Raises:
        ModelError: as `explained` words it, where there is nothing in the cache either.
    """
    try:
        return list(_listing(model_id))
    except Exception as error:  # as in `fetch`
        cached = [name for name in known if _cached(model_id, name)]
        if cached:
            return cached
        raise explained(model_id, "its files", error) from error


def tensors(model_id: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of every tensor, from the headers alone; empty where there are none or no connection."""
    import huggingface_hub

    try:
        files = huggingface_hub.get_safetensors_metadata(model_id).files_metadata.values()
    except Exception:  # as above
        return []
    return [(name, info.dtype, tuple(info.shape)) for file in files for name, info in file.tensors.items()]


def download(model_id: str, report: Progress | None) -> Path:
    """The folder of a repository's configuration, texts and weights, in the hub's cache.

    Pickled weights are fetched only where there are no others; no code is fetched at all.

    Raises:
        ModelError: as `explained` words it.
    """
    import huggingface_hub

    files = sizes(model_id)
    pickled = bool(files) and not any(name.startswith("model") and _chosen(name, ["*.safetensors*"]) for name in files)
    patterns = [*TEXTS, "*.safetensors", *(["*.bin"] if pickled else [])]  # a scorer may lie beside pickles
    waiting = sum(size for name, size in files.items() if _chosen(name, patterns) and not _cached(model_id, name))
    bar = byte_bar(report, f"downloading {model_id}", waiting) if report else None
    try:
        folder = huggingface_hub.snapshot_download(
            model_id, allow_patterns=patterns, ignore_patterns=list(NOT_READ), tqdm_class=bar
        )
    except Exception as error:  # as in `fetch`
        raise explained(model_id, "its files", error) from error
    return Path(folder)


def _listing(model_id: str) -> dict[str, int]:
    import huggingface_hub

    siblings = huggingface_hub.model_info(model_id, files_metadata=True).siblings or []
    return {file.rfilename: file.size or 0 for file in siblings if not is_debris(file.rfilename.rpartition("/")[2])}


def _chosen(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, p) for p in patterns) and not any(fnmatch(name, p) for p in NOT_READ)


def _cached(model_id: str, name: str) -> bool:
    import huggingface_hub

    return isinstance(huggingface_hub.try_to_load_from_cache(model_id, name), str)


def explained(model_id: str, what: str, error: Exception) -> ModelError:
    """What went wrong on the hub, and what helps: no such repository, gated, no connection, no space, anything else."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return ModelError(
            f"{model_id} is gated: accept its terms on https://huggingface.co/{model_id}, then run `hf auth login` or "
            "set HF_TOKEN"
        )
    if isinstance(error, errors.DisabledRepoError):
        return ModelError(f"{model_id} was disabled on the hub: choose another model")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"the hub has no model {model_id}, or it is private: check the spelling; for a private one run "
            "`hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | ConnectionError):
        return ModelError(
            f"{model_id} is not in the hub's cache here, and the hub cannot be reached: connect to the network (and "
            "unset HF_HUB_OFFLINE), or download the checkpoint elsewhere and name its folder"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return AbsentError(
            f"{model_id} is on the hub but has no {what}: it is no checkpoint of the model library. Choose one that is."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ModelError(
            f"the disk is full while {model_id} is downloaded: free space, or set HF_HOME to a folder on a larger disk"
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(f"{model_id}: {what} cannot be fetched from the hub ({reason}). Check the network, try again.")
