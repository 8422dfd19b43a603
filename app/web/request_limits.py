"""What a request may be: not larger than an upload, and nothing that has the server fetch from another address.

Gradio takes JSON of any size, would download whatever address stands in the place of a file, and serves any public page
under its own name. This app needs none of that.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from app.web.errors import message_for

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[..., Awaitable[None]]

FILES = 32  # that one upload may bring: Gradio's own limit is for each of them, and 1,000 files
BASE64, WORDS = 4 / 3, 1 << 20  # a file as text in JSON is longer by this; bytes of all else in a request
ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
SERVED = "/gradio_api/file="  # before the path of a file that this server holds


class RequestLimits:
    """ASGI middleware.

    upload_bytes: the largest file that is taken. prefix: under which a proxy serves the page, "/lab", or nothing.
    """

    def __init__(self, app: App, upload_bytes: int, prefix: str = "") -> None:
        self._app, self._file, self._prefix = app, upload_bytes, prefix

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _whole(scope, self._prefix)
        path = str(scope["path"])
        if ADDRESS.match(path.partition("/file=")[2]):
            refusal = PlainTextResponse("This server hands out no pages of other hosts.", 403)
            await refusal(scope, receive, send)
            return
        most = FILES * self._file + WORDS if path.endswith("/upload") else int(BASE64 * self._file) + WORDS
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            await PlainTextResponse(_too_large(most), 413)(scope, receive, send)
            return
        await self._app(scope, _counted(receive, most), send)


def _whole(scope: Message, prefix: str) -> Message:
    """The request with the path that its visitor asked for, whether the proxy cut the prefix off or not: what is
    mounted below the app is not found else, and would tell an address that leads nowhere.
    """
    path, raw = str(scope["path"]), scope.get("raw_path") or b""
    if not prefix:
        return scope
    if path != prefix and not path.startswith(f"{prefix}/"):
        path, raw = prefix + path, prefix.encode() + raw
    return {**scope, "path": path, "raw_path": raw, "root_path": prefix}


def _counted(receive: Receive, most: int) -> Receive:
    """`receive` that raises HTTPException 413 where a body of no stated length goes on for too long."""
    seen = 0

    async def count() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise HTTPException(413, _too_large(most))
        return message

    return count


def _too_large(most: int) -> str:
    return f"The request is larger than {most / 2**20:.0f} MB: send fewer or smaller files."


def uploads_only(move: Callable[..., Awaitable[str | None]]) -> Callable[..., Awaitable[str | None]]:
    """A check before the method by which a Gradio component gets hold of a file: one that was uploaded here is taken,
    one that another address names is not fetched.
    """

    async def checked(component: Any, path: str | Path | None) -> str | None:
        ours = _uploaded(path, Path(component.GRADIO_CACHE)) if path and ADDRESS.match(str(path)) else path
        return await move(component, ours)

    return checked


def _uploaded(address: str | Path, folder: Path) -> str:
    """The path of the upload that an address of this server names. Raises the visitor's message for any other."""
    with suppress(ValueError):  # of what no path can hold
        path = Path(unquote(str(address).partition(SERVED)[2])).resolve()
        if SERVED in str(address) and path.is_relative_to(folder.resolve()) and path.is_file():
            return str(path)
    raise message_for(
        ValueError("This server fetches no files from other addresses: upload the file, or send it as a data: URL")
    )
