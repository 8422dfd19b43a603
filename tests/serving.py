"""One running page for all tests that need one: the tiny model behind the real app, and a headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.engine import Engine
from app.settings import Settings

BROWSER = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
UPLOAD_MB = 2.0


@dataclass(frozen=True)
class Served:
    """Where the page is, and the engine behind it."""

    url: str
    engine: Engine


@contextmanager
def serve(vlm) -> Iterator[Served]:
    from app.ui import build_demo, launch_options

    engine = Engine(vlm, 256 << 20, int(UPLOAD_MB * 2**20))
    demo = build_demo(engine)
    options = launch_options(Settings(port=0, upload_limit=UPLOAD_MB))
    _, url, _ = demo.launch(**options, prevent_thread_lock=True)
    try:
        yield Served(url, engine)
    finally:
        demo.close(verbose=False)


@contextmanager
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()
