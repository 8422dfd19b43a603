"""A hub over loopback, for the real client: repositories are folders, and it can be slow, break off, lie or refuse."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, hf_api
from huggingface_hub.utils import close_session

from pruning.models.checkpoint import reach, transfer

LARGE = (".safetensors", ".bin")
PIECE = 4096


class Hub:
    """`url` is its address, and what may be changed while it is up is what it is like.

    token: what it wants to see before it shows anything of a gated repository. gated, disabled: ids. hangs: parts of
    paths that are never answered. pause: seconds before each piece of a large file. breaks: after how many bytes of a
    large file the connection ends, for one request each. flipped: names of files whose first byte is sent wrong.
    status: part of a path -> HTTP status in its place. ranges: whether it can send the rest of a file alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.token, self.gated, self.disabled = "hf_right", set[str](), set[str]()
        self.hangs, self.flipped, self.status = set[str](), set[str](), dict[str, int]()
        self.pause, self.breaks, self.ranges = 0.0, list[int](), True
        self.asked: list[tuple[str, str, str]] = []  # method, path, range
        self.sent: dict[str, int] = {}  # name of a large file -> bytes of it that went out
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def repository(self, model_id: str) -> Path:
        return self.root / model_id

    def of(self, what: str) -> list[tuple[str, str, str]]:
        """The requests with `what` in their path."""
        return [one for one in self.asked if what in one[1]]


class _Answers(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *values: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        if hub.closing.is_set():  # a connection that was kept open
            self.close_connection = True
            return
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        if any(part in path for part in hub.hangs):
            hub.closing.wait(30)
            self.close_connection = True
            return
        status = next((status for part, status in hub.status.items() if part in path), 0)
        if status:
            return self._say(status, b"")
        if path.strip("/") == "api/models":
            return self._say(200, b"[]")
        parts = path.strip("/").removeprefix("api/models/").split("/")
        model_id, rest = "/".join(parts[:2]), parts[2:]
        folder = hub.repository(model_id)
        if not folder.is_dir():
            known = self.headers.get("Authorization") == f"Bearer {hub.token}"  # others are not told what is private
            return self._refuse(404 if known else 401, "RepoNotFound", "Repository not found")
        if model_id in hub.disabled:
            return self._refuse(403, "", "Access to this resource is disabled.")
        if (given := self.headers.get("Authorization")) and given != f"Bearer {hub.token}":
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if model_id in hub.gated and not given and rest[:1] == ["resolve"]:
            return self._refuse(401, "GatedRepo", "Access to this model is restricted")
        if rest[:1] == ["resolve"]:
            return self._file(folder, "/".join(rest[2:]))
        if rest[:1] == ["tree"]:
            return self._say(200, json.dumps([_entry(folder, file) for file in _files(folder)]).encode())
        info = {"_id": "1", "id": model_id, "sha": _commit(folder), "private": False, "tags": [], "downloads": 0}
        info["siblings"] = [_sibling(folder, file) for file in _files(folder)]
        return self._say(200, json.dumps(info).encode())

    def _file(self, folder: Path, name: str) -> None:
        commit = {"X-Repo-Commit": _commit(folder)}
        if not (folder / name).is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        data = (folder / name).read_bytes()
        large = name.endswith(LARGE)
        more = commit | {"ETag": f'"{_etag(folder / name)}"', "Accept-Ranges": "bytes"}
        if large:
            more |= {"X-Linked-Etag": f'"{_etag(folder / name)}"', "X-Linked-Size": str(len(data))}
        if name in self.hub.flipped:
            data = bytes([data[0] ^ 255]) + data[1:]
        status, wanted = 200, self.headers.get("Range", "").removeprefix("bytes=")
        if wanted and self.hub.ranges:
            first, _, last = wanted.partition("-")
            whole, status = len(data), 206
            data = data[int(first) : int(last) + 1 if last else None]
            more["Content-Range"] = f"bytes {first}-{int(first) + len(data) - 1}/{whole}"
        self._say(status, data, more, name if large else "")

    def _refuse(self, status: int, code: str, message: str, more: dict[str, str] | None = None) -> None:
        self._say(status, b"", {**(more or {}), "X-Error-Code": code, "X-Error-Message": message})

    def _say(self, status: int, data: bytes, more: dict[str, str] | None = None, large: str = "") -> None:
        self.send_response(status)
        for name, value in {**(more or {}), "Content-Length": str(len(data))}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if not large:
            self.wfile.write(data)
            return
        header = self.headers.get("Range", "").startswith("bytes=0-")  # what is asked to learn a model's size
        end = self.hub.breaks.pop(0) if self.hub.breaks and not header else len(data)
        for begin in range(0, min(end, len(data)), PIECE):
            if self.hub.pause and not header and self.hub.closing.wait(self.hub.pause):
                break
            piece = data[begin : min(begin + PIECE, end)]
            self.wfile.write(piece)
            if not header:
                self.hub.sent[large] = self.hub.sent.get(large, 0) + len(piece)
        if end < len(data):
            self.close_connection = True
            self.connection.close()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _etag(file: Path) -> str:
    data = file.read_bytes()
    if file.name.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _commit(folder: Path) -> str:
    return hashlib.sha1("".join(map(_etag, _files(folder))).encode()).hexdigest()


def _lfs(file: Path) -> dict[str, Any]:
    return {"sha256": _etag(file), "size": file.stat().st_size, "pointerSize": 134}


def _sibling(folder: Path, file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": file.relative_to(folder).as_posix(), "size": file.stat().st_size}
    return {**found, "blobId": "1" * 40, **({"lfs": _lfs(file)} if file.name.endswith(LARGE) else {})}


def _entry(folder: Path, file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "path": file.relative_to(folder).as_posix(), "oid": _etag(file)}
    lfs = {"lfs": {"oid": _etag(file), **_lfs(file)}} if file.name.endswith(LARGE) else {}
    return {**found, "size": file.stat().st_size, **lfs}


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """A hub whose repositories are the folders OWNER/NAME under `root`."""
    hub = Hub(root)
    try:
        yield hub
    finally:
        hub.close()


def ask_there(patch: pytest.MonkeyPatch, hub: Hub, home: Path) -> None:
    """The client of this process asks this hub and caches under `home`, as HF_ENDPOINT and HF_HOME would make it."""
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(hf_api.api, "endpoint", hub.url)
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    patch.setattr(transfer, "PAUSE", 0.01)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(name, raising=False)
    reach.forget()
    close_session()


def until(true: Any, seconds: float = 20.0) -> bool:
    """Wait until `true()` is; False where it is not in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
