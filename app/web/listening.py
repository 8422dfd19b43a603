"""Which of the streams, through which pages hear of their events, are open.

Gradio closes a page's stream once nothing of the page is under way. The page cannot know that of an event which it
begins at this moment: it may learn that the event is queued before it learns that its stream is closed, would open no
other, and the event would be waited for in vain. So a page names its streams, and is told of each event that it begins
whether the server has closed the one that it listens to (assets/scripts/listening.js has the page's half).
"""

from __future__ import annotations

from app.web.request_limits import App, Message, Receive, Send

NAME = b"x-stream"  # the header: of a request, the stream's name; of an answer, "open" or "closed"
CLOSING = b'"msg":"close_stream"'  # in no other message: in a string the quotes would have a backslash


class Listening:
    """ASGI middleware, the innermost: what it sees closed is closed before another request is looked at."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._open: set[bytes] = set()  # at most one per connection

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        name = dict(scope["headers"]).get(NAME) if scope["type"] == "http" else None
        path = str(scope.get("path", ""))
        if name is not None and path.endswith("/queue/data"):
            await self._stream(name, scope, receive, send)
        elif name is not None and path.endswith("/queue/join"):
            await self._app(scope, receive, self._told(name, send))
        else:
            await self._app(scope, receive, send)

    async def _stream(self, name: bytes, scope: Message, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if CLOSING in message.get("body", b""):
                self._open.discard(name)
            await send(message)

        self._open.add(name)
        try:
            await self._app(scope, receive, watched)
        finally:
            self._open.discard(name)

    def _told(self, name: bytes, send: Send) -> Send:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                state = b"open" if name in self._open else b"closed"
                message = {**message, "headers": [*message.get("headers", ()), (NAME, state)]}
            await send(message)

        return told
