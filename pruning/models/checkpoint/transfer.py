"""Large files of the hub into its cache, so that nothing that has come is fetched twice.

The client throws away what it has of a file when it is stopped or the network fails; a model is often one file. Here
what has come stays beside the finished files as `<hash>.part`, the next try asks for the rest alone, and a file is
given its name in the cache once its SHA-256 is the hub's. The client then finds it there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruning.models.checkpoint.footprint import readable
from pruning.models.checkpoint.progress import Bytes
from pruning.models.values import ModelError

TRIES = 5  # in a row that bring nothing, before it is given up
PAUSE = 1.0  # seconds before a try, doubled with each
SPARE = 100_000_000  # bytes of the disk that are left alone


class BrokenOffError(ConnectionError):
    """The hub stopped sending."""


@dataclass(frozen=True)
class Listed:
    """A file as the hub lists it. sha256: "" for small ones, which lie in the repository itself."""

    name: str
    size: int
    sha256: str = ""


def repository(model_id: str) -> str:
    """The repository of an id, which may name one of its revisions behind an @."""
    return model_id.partition("@")[0]


def waiting(model_id: str, files: Sequence[Listed]) -> int:
    """Bytes of these files that have not come yet, parts of files counted."""
    return sum(file.size - _arrived(model_id, file) for file in files)


def check_room(model_id: str, size: int) -> None:
    """Raise ModelError unless the hub's cache has room for `size` more bytes."""
    if size > room():
        raise ModelError(
            f"{model_id} is {readable(size)} to download, and there is room for {readable(room())} in {cache()}: free "
            "space, or set HF_HOME to a folder on a larger disk"
        )


def room() -> int:
    """Bytes that may be downloaded."""
    return max(0, shutil.disk_usage(_existing(cache())).free - SPARE)


def cache() -> Path:
    """Folder of the hub's cache, as `HF_HOME` and `HF_HUB_CACHE` say."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def fetch(model_id: str, revision: str, file: Listed, told: Bytes) -> None:
    """Put a file's bytes into the cache, after those of its part that are there; tells of every piece.

    Raises:
        ModelError: what arrived is not what the hub lists; it is thrown away. BrokenOffError: the hub stopped sending;
            what came stays. OSError: the disk is full or cannot be written. What `told` raises.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    target = _blob(model_id, file)
    lock = cache() / ".locks" / target.parents[1].name / f"{file.sha256}.lock"  # the client's own
    for folder in (target.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if target.is_file():
            return
        part = target.with_name(f"{target.name}.part")
        with part.open("ab") as out:
            _fill(out, part, model_id, revision, file, told)
        if (found := _sha256(part)) != file.sha256:
            part.unlink()
            raise ModelError(
                f"{model_id}: {file.name} arrived damaged (its SHA-256 is {found[:12]}…, the hub's {file.sha256[:12]}…)"
                " and was thrown away. Try again; if it happens again, a proxy or mirror on the way changes it."
            )
        os.replace(part, target)


def _fill(out: Any, part: Path, model_id: str, revision: str, file: Listed, told: Bytes) -> None:
    """Append to a part until it is whole. The hub may break off and be asked again, from where it was."""
    tries = 0
    while (there := out.tell()) < file.size:
        try:
            with closing(_pieces(model_id, revision, file, there)) as pieces:
                for begin, piece in pieces:
                    if begin != out.tell():  # it sends all of it, not the rest
                        told.add(begin - out.tell())
                        out.truncate(begin)
                    out.write(piece)
                    told.add(len(piece))
                    tries = 0
            if out.tell() < file.size:
                raise BrokenOffError(f"it ended after {out.tell():,} of {file.size:,} bytes")
        except BrokenOffError:
            out.flush()
            tries += 1
            if tries > TRIES:
                raise
            told.wait(f"the hub stopped sending, try {tries} of {TRIES}", PAUSE * 2 ** (tries - 1))
    out.truncate(file.size)


def _pieces(model_id: str, revision: str, file: Listed, there: int) -> Generator[tuple[int, bytes], None, None]:
    """Where a piece begins, and its bytes, from byte `there` on, or from the first where the hub cannot do that.

    Raises BrokenOffError where the hub does not send, or no more; errors of the client where it refuses.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

    url = huggingface_hub.hf_hub_url(repository(model_id), file.name, revision=revision, endpoint=constants.ENDPOINT)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        stream = get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True)
        with stream as response:
            hf_raise_for_status(response)
            begin = there if response.status_code == 206 else 0
            for piece in response.iter_bytes():
                yield begin, piece
                begin += len(piece)
    except errors.HfHubHTTPError as error:
        if error.response is not None and error.response.status_code < 500:
            raise
        raise BrokenOffError(str(error)) from error
    except Exception as error:  # of the HTTP library, whichever the client uses; nothing else is done in here
        raise BrokenOffError(str(error) or type(error).__name__) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _blob(model_id: str, file: Listed) -> Path:
    """Where the client looks for a file: by its hash."""
    from huggingface_hub.file_download import repo_folder_name

    return cache() / repo_folder_name(repo_id=repository(model_id), repo_type="model") / "blobs" / file.sha256


def _arrived(model_id: str, file: Listed) -> int:
    if not file.sha256:
        return 0
    blob = _blob(model_id, file)
    if blob.is_file():
        return file.size
    with suppress(OSError):
        return min(file.size, blob.with_name(f"{blob.name}.part").stat().st_size)
    return 0


def _existing(folder: Path) -> Path:
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
