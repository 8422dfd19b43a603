"""Visitors: sessions and settings for tests of the app below the page, browser tabs for tests of the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

from app.engine.engine import Engine
from app.session import Session, Setting
from pruning.drawing.overlays import STYLES
from pruning.grids import Scope
from pruning.method import make

QUESTION = "what color is the star?"
A_WHILE = "() => new Promise((done) => setTimeout(() => requestAnimationFrame(done), 50))"


def look(engine: Engine, *paths: str, questions: tuple[str, ...] = (QUESTION,)) -> Session:
    """The session of a visitor who asks about these images."""
    pictures = tuple(engine.resources.pictures.open(path)[0] for path in paths)
    return Session("tiny", pictures, questions)


def keep(name: str, retention: float = 0.25, scope: Scope = "sample", **knobs: Any) -> Setting:
    return Setting(make(name, **knobs), retention, scope)


STOP = """([button, where, says]) => new Promise((done, fail) => {
  const start = performance.now();
  const look = () => {
    const seconds = (performance.now() - start) / 1000, told = document.querySelector(where).textContent;
    if (told.includes(says)) done(seconds);
    else if (seconds > 60) fail(new Error(`a minute after the click on ${button} it says: ${told}`));
    else requestAnimationFrame(look);
  };
  document.querySelector(button).click();
  look();
})"""


def seconds_to_stop(tab: Any, button: str, where: str, says: str = "Stopped") -> float:
    """From the click on a button until the page says so, by the page's own clock: how long the driver of the browser
    takes does not count.
    """
    return float(tab.evaluate(STOP, [button, where, says]))


LOOP = "() => { for (let i = 0, x = 1; i < 1e7; i++) x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff; }"
MAIN, TASKS = "CrRendererMain", ("RunTask", "ThreadControllerImpl::RunTask")


def longest_task(tab: Any, act: Callable[[], None]) -> float:
    """Milliseconds of the processor's time that the longest task of the page's main thread takes while `act` runs: a
    busy machine does not lengthen it.
    """
    events, ended = list[Any](), list[Any]()
    session = tab.context.new_cdp_session(tab)
    session.on("Tracing.dataCollected", lambda told: events.extend(told["value"]))
    session.on("Tracing.tracingComplete", lambda told: ended.append(told))
    categories = {"includedCategories": ["toplevel", "devtools.timeline"]}
    session.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": categories})
    act()
    session.send("Tracing.end")
    while not ended:
        tab.wait_for_timeout(20)
    session.detach()
    names = [event for event in events if event.get("name") == "thread_name" and event["args"]["name"] == MAIN]
    main = {(event["pid"], event["tid"]) for event in names}
    tasks = [event for event in events if event["name"] in TASKS and (event["pid"], event["tid"]) in main]
    # The clock of a thread's time may tick in steps longer than a task: it took no longer than it lasted.
    return max(min(task.get("tdur", 0), task.get("dur", 0)) for task in tasks) / 1e3


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


def ask(tab: Any, button: str, question: str) -> None:
    """Returns when the new answers stand: those of before are marked, since "running" can be too short to be seen."""
    tab.evaluate("document.querySelector('#report .badge').classList.add('before')")
    tab.fill("#question textarea", question)
    tab.click(button)
    tab.wait_for_selector("#report .badge:is(.same, .other):not(.before)")


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


class SharedTab:
    """One tab for the tests of a file, most of whose time would go into opening it anew for each.

    Each test begins at the start: the first example, its question and settings. A test that failed leaves no tab to the
    next one.
    """

    def __init__(self, chromium: Any, url: str, **context: Any) -> None:
        self._context, self._url = lambda: chromium.new_context(**context), f"{url}?__theme=light"
        self._tab: Any = None
        self._wrong: list[str] = []
        self._asked: set[Any] = set()  # requests of events that are not answered to their end

    @contextmanager
    def at_the_start(self) -> Iterator[Any]:
        """The tab. Fails on a script error and on a request to another host."""
        try:
            if self._tab is None:
                self._open()
            else:
                _choose_the_start(self._tab)
                self.settle()
            yield self._tab
            assert self._wrong == []
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SharedTab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def settle(self) -> None:
        """Wait until every event is answered to its end, and nothing more comes of it.

        Now and then the browser's driver is not told that a stream has ended: where nothing was asked for 10 seconds,
        none is waited for.
        """
        # by the page's own clock: while it is busy nothing comes of anything
        quiet, end, asked, since = 0, time.monotonic() + 60, len(self._asked), time.monotonic()
        while quiet < 10:  # half a second: from one event to what comes after it the page may be busy
            assert time.monotonic() < end, "the page goes on asking by itself"
            self._tab.evaluate(A_WHILE)
            if len(self._asked) != asked:
                asked, since = len(self._asked), time.monotonic()
            if asked and time.monotonic() - since > 10:
                self._asked.clear()
            quiet = 0 if self._asked else quiet + 1

    def close(self) -> None:
        if self._tab is not None:
            self._tab.context.close()
        self._tab = None
        self._wrong.clear()
        self._asked.clear()

    def _open(self) -> None:
        self._tab = self._context().new_page()
        self._tab.set_default_timeout(60_000)
        self._tab.on("request", self._requested)
        for ended in ("requestfinished", "requestfailed"):
            self._tab.on(ended, lambda request: self._asked.discard(request))
        self._tab.on("pageerror", lambda error: self._wrong.append(str(error)))
        self._tab.goto(self._url)
        self._tab.wait_for_selector(ANSWERED)
        self.settle()

    def _requested(self, request: Any) -> None:
        if "/queue/" in request.url or "/run/predict" in request.url:
            self._asked.add(request)
        elif _foreign(request.url):
            self._wrong.append(request.url)


ANSWERED = "#report .badge.same, #report .badge.other"
START = {"importance-weight": "0.5", "diversity-weight": "0.5", "retention": "0.25"}


def _choose_the_start(tab: Any) -> None:
    """As a visitor would: what is open is closed, then the first method, weights, retention, and the first example."""
    tab.keyboard.press("Escape")
    tab.evaluate("document.querySelectorAll('.toast-close').forEach((close) => close.click())")
    tab.locator("#views > .tab-wrapper [role=tab]").first.click()
    tab.get_by_role("tab", name="Trade-off plane").click()
    tab.get_by_text(STYLES["dimmed"], exact=True).click()
    tab.get_by_role("button", name="Inspect").click()
    clear = tab.locator("#canvas [data-part=clear]")
    if clear.is_enabled():
        clear.click()
    if not tab.input_value("#method input").startswith("IDPruner"):
        tab.click("#method input")
        tab.get_by_role("option", name="IDPruner").first.click()
        tab.wait_for_selector("#importance-weight", state="visible")
    for name, value in START.items():
        field = tab.locator(f"#{name} input[type=number]")
        if field.input_value() != value:
            field.fill(value)
            field.press("Tab")
    tab.click("#examples button:first-child")
