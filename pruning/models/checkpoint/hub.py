"""The hub: what a repository holds, and its download with progress; `refusals` words its errors.

Works without the network as far as the hub's cache reaches; `HF_HUB_OFFLINE=1` forbids the network. Mirrors, the folder
of the cache and tokens are those of the hub's own client: `HF_ENDPOINT`, `HF_HOME`, `hf auth login` or `HF_TOKEN`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pruning.debris import TWIN, is_debris
from pruning.models.checkpoint import reach, transfer
from pruning.models.checkpoint.progress import Bytes, Progress
from pruning.models.checkpoint.refusals import explained
from pruning.models.checkpoint.transfer import Listed

TEXTS = ("*.json", "*.jinja", "*.txt", "*.model")
# Subfolders, the same weights in a format of their maker, and what a file system leaves.
NOT_READ = ("*/*", "consolidated*", f"{TWIN}*")
REVISION = re.compile(r"[\w.-]+(?:/[\w.-]+)*")
TIMEOUT = 10.0  # seconds that the hub has for a list of files
EXAMPLE = (
    "Qwen/Qwen2.5-VL-3B-Instruct, OWNER/NAME in plain letters, digits, single '-', '_' and '.', none of '-' and '.' at "
    "an end, and for one of its revisions @ and that: check the spelling"
)


def is_id(name: str) -> bool:
    """Whether the hub could have a model of this name: an owner and a name, by the hub's own rules, and behind an @, if
    there is one, a branch, tag or commit.
    """
    from huggingface_hub import errors, utils

    repository, at, revision = name.partition("@")
    try:
        utils.validate_repo_id(repository)  # type: ignore[attr-defined]
    except errors.HFValidationError:
        return False
    if at and (REVISION.fullmatch(revision) is None or ".." in revision):
        return False
    return all(part.strip("-.") == part for part in repository.split("/")) and "/" in repository


def fetch(model_id: str, name: str) -> Path:
    """One small file of a repository, from the cache where it is there. ModelError as `explained` words it."""
    import huggingface_hub

    try:
        away = not reach.answers()
        return Path(huggingface_hub.hf_hub_download(**_named(model_id), filename=name, local_files_only=away))
    except Exception as error:  # whatever the client, or the HTTP library under it, raises
        raise explained(model_id, name, error) from error


def sizes(model_id: str) -> dict[str, int]:
    """File name -> bytes of a repository's files; empty where the hub does not say."""
    try:
        return {file.name: file.size for file in _listing(model_id)[1]}
    except Exception:  # not knowing is no error here: the download says what is wrong
        return {}


def names(model_id: str, known: Sequence[str]) -> list[str]:
    """Names of a repository's files; where the hub cannot be asked, those of `known` that its cache here holds.

    Raises:
        ModelError: as `explained` words it, where there is nothing in the cache either.
    """
    try:
        return [file.name for file in _listing(model_id)[1]]
    except Exception as error:  # as in `fetch`
        cached = [name for name in known if _cached(model_id, name)]
        if cached:
            return cached
        raise explained(model_id, "its files", error) from error


def tensors(model_id: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of every tensor, from the headers alone; empty where there are none or no connection."""
    import huggingface_hub

    try:
        reach.require()
        files = huggingface_hub.get_safetensors_metadata(**_named(model_id)).files_metadata.values()
    except Exception:  # as above
        return []
    return [(name, info.dtype, tuple(info.shape)) for file in files for name, info in file.tensors.items()]


def download(model_id: str, report: Progress | None) -> Path:
    """The folder of a repository's configuration, texts and weights, in the hub's cache.

    Pickled weights are fetched only where there are no others; no code is fetched at all. A download that was stopped
    or broke off goes on where it was.

    Raises:
        ModelError: as `explained` words it; no room on the disk, before anything is fetched; a damaged file.
    """
    import huggingface_hub

    try:
        revision, files = _listing(model_id)
    except Exception as error:  # as in `fetch`
        return _cached_whole(model_id, error)
    pickled = not any(f.name.startswith("model") and _chosen(f.name, ["*.safetensors*"]) for f in files)
    patterns = [*TEXTS, "*.safetensors", *(["*.bin"] if pickled else [])]  # a scorer may lie beside pickles
    wanted = [file for file in files if _chosen(file.name, patterns) and not _cached(model_id, file.name)]
    missing = transfer.waiting(model_id, wanted)
    if missing:
        transfer.check_room(model_id, missing)
    total = sum(file.size for file in wanted)
    told = Bytes(report, f"downloading {model_id}", total, total - missing)
    try:
        for file in wanted:
            if file.sha256:
                transfer.fetch(model_id, revision, file, told)
        folder = huggingface_hub.snapshot_download(
            **_named(model_id),
            allow_patterns=patterns,
            ignore_patterns=list(NOT_READ),
            tqdm_class=told.bar(),
        )
    except ValueError:  # worded already, or of `report`: nobody waits for it any more
        raise
    except Exception as error:  # as in `fetch`
        raise explained(model_id, "its files", error) from error
    return Path(folder)


def present(model_id: str) -> bool:
    """Whether weights of a repository lie in the cache, or in a folder of that name; nothing is asked of the hub."""
    from huggingface_hub import constants

    names = (constants.SAFETENSORS_SINGLE_FILE, constants.SAFETENSORS_INDEX_FILE)
    return Path(model_id).is_dir() or any(_cached(model_id, name) for name in names)


def _cached_whole(model_id: str, problem: Exception) -> Path:
    """The folder of a repository in the cache, where its weights are there. ModelError of the `problem` otherwise."""
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(**_named(model_id), local_files_only=True))
    except Exception:  # as in `fetch`
        folder = None
    if folder is None or not _has_weights(folder):
        raise explained(model_id, "its files", problem) from problem
    return folder


def _has_weights(folder: Path) -> bool:
    """Whether a snapshot has weights, with all shards that an index names; what is in them is judged elsewhere."""
    index = next((file for file in sorted(folder.glob("*.index.json")) if not is_debris(file.name)), None)
    if index is None:
        return any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin"))
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return True  # damaged: its reader says so
    return all((folder / str(name)).is_file() for name in names)


def _listing(model_id: str) -> tuple[str, list[Listed]]:
    """The commit of a repository, and its files. Raises whatever the client does, ConnectionError where it is away."""
    import huggingface_hub

    reach.require()
    info = huggingface_hub.model_info(**_named(model_id), files_metadata=True, timeout=TIMEOUT)
    files = [
        Listed(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else "")
        for file in info.siblings or []
        if not is_debris(file.rfilename.rpartition("/")[2])
    ]
    return info.sha or "", files


def _chosen(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, p) for p in patterns) and not any(fnmatch(name, p) for p in NOT_READ)


def _cached(model_id: str, name: str) -> bool:
    import huggingface_hub

    return isinstance(huggingface_hub.try_to_load_from_cache(**_named(model_id), filename=name), str)


def _named(model_id: str) -> dict[str, Any]:
    """An id as the client takes it: its repository, and the branch, tag or commit that it names, if any."""
    return {"repo_id": transfer.repository(model_id), "revision": model_id.partition("@")[2] or None}
