"""Visitors: sessions and settings for tests of the app below the page, browser tabs for tests of the page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

from app.engine.engine import Engine
from app.session import Session, Setting
from pruning.method import make

QUESTION = "what color is the star?"


def look(engine: Engine, *paths: str, questions: tuple[str, ...] = (QUESTION,)) -> Session:
    """The session of a visitor who asks about these images."""
    pictures = tuple(engine.resources.pictures.open(path)[0] for path in paths)
    return Session("tiny", pictures, questions)


def keep(name: str, retention: float = 0.25, scope: str = "sample", **knobs) -> Setting:
    return Setting(make(name, **knobs), retention, scope)


STOP = """([button, where, says]) => new Promise((done) => {
  const start = performance.now();
  const look = () => (document.querySelector(where).textContent.includes(says)
    ? done((performance.now() - start) / 1000) : requestAnimationFrame(look));
  document.querySelector(button).click();
  look();
})"""


def seconds_to_stop(tab: Any, button: str, where: str, says: str = "Stopped") -> float:
    """From the click on a button until the page says so, by the page's own clock: how long the driver of the browser
    takes does not count.
    """
    return float(tab.evaluate(STOP, [button, where, says]))


@contextmanager
def visit(chromium: Any, url: str) -> Iterator[Any]:
    """A tab of a visitor who knows the guide, once the first report stands.

    Fails on a script error and on a request to another host.
    """
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    tab, wrong = context.new_page(), []
    tab.set_default_timeout(60_000)
    tab.on("request", lambda request: wrong.append(request.url) if _foreign(request.url) else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    try:
        tab.goto(f"{url}{'' if '?' in url else '?'}__theme=light")
        tab.wait_for_selector("#report .badge.same, #report .badge.other")
        yield tab
    finally:
        context.close()
    assert wrong == []


@contextmanager
def crawling(vlm: Any, patch: Any, seconds: float = 0.2) -> Iterator[None]:
    """Every token of every answer takes its time, until the block ends."""
    slow, generate = [True], vlm.generate

    def crawl(*values: Any, **named: Any) -> Iterator[Any]:
        for chunk in generate(*values, **named):
            time.sleep(seconds if slow else 0)
            yield chunk

    with patch.context() as patched:
        patched.setattr(vlm, "generate", crawl)
        try:
            yield
        finally:
            slow.clear()


def _foreign(url: str) -> bool:
    parts = urlparse(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in ("127.0.0.1", "localhost")
