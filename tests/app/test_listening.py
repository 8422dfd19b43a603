"""What a page is told of the stream that it listens to."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.web.listening import Listening


class Pages:
    """An app in the place of Gradio's: one stream, which ends when it is told to."""

    def __init__(self) -> None:
        self.ends, self.closing = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"].endswith("/queue/data"):
            said = b'data: {"msg":"process_completed","output":"\\"msg\\":\\"close_stream\\""}\n\n'
            await send({"type": "http.response.body", "body": said, "more_body": True})
            await self.ends.wait()
            await send({"type": "http.response.body", "body": b'data: {"msg":"close_stream"}\n\n', "more_body": True})
            self.closing.set()
            await asyncio.sleep(60)  # its last words are under way
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})


@pytest.mark.parametrize("prefix", ["/gradio_api", "/lab/gradio_api"])
def test_a_page_is_told_whether_its_stream_is_closed_and_no_other_page_is(prefix):
    async def visit() -> list[str | None]:
        pages = Pages()
        app, told = Listening(pages), []
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://lab") as client:

            async def begin(name: str | None) -> None:
                headers = {"x-stream": name} if name else {}
                told.append((await client.post(f"{prefix}/queue/join", headers=headers)).headers.get("x-stream"))

            stream = asyncio.create_task(client.get(f"{prefix}/queue/data", headers={"x-stream": "mine"}))
            await asyncio.sleep(0)
            while not app._open:
                await asyncio.sleep(0)
            for name in ("mine", "another's", None):
                await begin(name)
            pages.ends.set()
            await pages.closing.wait()
            await begin("mine")
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)
            assert app._open == set()
        return told

    with ThreadPoolExecutor(1) as elsewhere:  # a browser's driver may have a loop in this thread
        told = elsewhere.submit(lambda: asyncio.run(visit())).result()
    assert told == ["open", "closed", None, "closed"]
