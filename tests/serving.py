"""A running page for the tests that need one, and a headless browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.engine import Engine
from app.settings import Settings

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


def installed_browser() -> str | None:
    """The system's Chromium or Chrome. None: Playwright's own, which is fetched where it is not there yet.

    Raises RuntimeError with what to do where there is neither.
    """
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"):
        if found := shutil.which(name):
            return found
    fetched = subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], capture_output=True)
    if fetched.returncode:
        raise RuntimeError("no browser: install Chromium or Chrome, then run the tests again")
    return None


@contextmanager
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=installed_browser(), args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()
