"""A connection whose last words are late: a proxy that holds them back, as a network may that lost a packet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

LAST = b'"msg":"close_stream"'


class Holding:
    """held: how often a stream's last words were held back so far, for `seconds`."""

    def __init__(self, url: str, seconds: float) -> None:
        self._port, self._seconds, self.held = urlsplit(url).port, seconds, 0
        self._visits: set[asyncio.Task[Any]] = set()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address of the proxy."""
        started: Future[tuple[int, Callable[[], object]]] = Future()
        thread = threading.Thread(target=asyncio.run, args=(self._serve(started),))
        thread.start()
        port, stop = started.result(10)
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            stop()
            thread.join()

    async def _serve(self, started: Future[tuple[int, Callable[[], object]]]) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._visit, "127.0.0.1", 0) as server:
            started.set_result((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(ended.set)))
            await ended.wait()
            for visit in tuple(self._visits):
                visit.cancel()
            await asyncio.gather(*self._visits, return_exceptions=True)

    async def _visit(self, page: asyncio.StreamReader, to_page: asyncio.StreamWriter) -> None:
        visit = asyncio.current_task()
        assert visit is not None
        self._visits.add(visit)
        app, to_app = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await asyncio.gather(self._pass(page, to_app), self._pass(app, to_page, self._seconds))
        finally:
            for end in (to_app, to_page):
                end.close()
            self._visits.discard(visit)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, hold: float = 0) -> None:
        while data := await source.read(1 << 16):
            if hold and LAST in data:
                # with its chunk's length, which stands two lines above
                before = data.rfind(b"\r\n", 0, data.rfind(b"\r\n", 0, data.index(LAST)))
                cut = before + 2 if before >= 0 else 0
                target.write(data[:cut])
                data = data[cut:]
                self.held += 1
                await asyncio.sleep(hold)
            target.write(data)
            await target.drain()
        target.close()
