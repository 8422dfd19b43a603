"""A running page for the tests that need one, and a headless browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio import http_server

from app.engine.engine import Engine
from app.engine.resources import Resources
from app.model_pool.loader import Listed
from app.model_pool.pool import Models
from app.race.runs import Races
from app.settings import Settings
from app.training.runs import Trainings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Gradio looks for a free port and takes it later: processes that test side by side look at ports of their own.
http_server.INITIAL_PORT_VALUE += http_server.TRY_NUM_PORTS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])

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
    # Chromium draws its own window, which nobody sees, in further pages: a third of the time of a simple page. From
    # SpareRenderer on, the list is Playwright's, which ours replaces.
    "--disable-features=InitialWebUI,PreloadTopChromeWebUI,WebUIOmniboxPopup,WebUIReloadButton,WebUIToolbar,"
    "SpareRendererForSitePerProcess,AvoidUnnecessaryBeforeUnloadCheckSync,DestroyProfileOnBrowserClose,HttpsUpgrades,"
    "MediaRouter,OptimizationHints,PaintHolding,ThirdPartyStoragePartitioning",
]
UPLOAD_MB = 2.0


class Shelf:
    """Stands in for `app.model_pool.loader.Loader`: what a test puts there is loaded from memory, sized as it says.

    vlms: model id -> model, or an exception to raise. needs: model id -> bytes, None where nobody knows.
    """

    device = "cpu"

    def __init__(self, vlms: Mapping[str, Any], needs: Mapping[str, int] | None = None, room: int = 1 << 50) -> None:
        self.vlms, self.needs, self.room = dict(vlms), dict(needs or {}), room
        self.loads: list[str] = []

    def load(self, model_id: str, tell: Callable[[str, float | None], None] | None = None) -> Any:
        self.loads.append(model_id)
        if tell is not None:
            tell("loading weights", 0.5)
        found = self.vlms[model_id]
        if isinstance(found, Exception):
            raise found
        return found

    def need(self, model_id: str, ask_hub: bool = False) -> int | None:
        return self.needs.get(model_id)

    def free(self) -> int:
        return self.room

    def download(self, model_id: str) -> int:
        return 0

    def disk(self) -> int:
        return self.room


@dataclass(frozen=True)
class Served:
    """Where the page is, and the models behind it; `engine` is the start-up model's."""

    url: str
    models: Models

    @property
    def engine(self) -> Engine:
        with self.models.use(self.models.first, "test") as (engine, _):
            return engine


def models_of(shelf: Shelf, resources: Resources | None = None) -> Models:
    """Every model of the shelf is allowed, the first one is loaded."""
    listed = [Listed(Path(name).name, name, Path(name).name) for name in shelf.vlms]
    loader: Any = shelf
    return Models(listed, shelf.vlms[listed[0].model_id], loader, resources or Resources(64 << 20))


@contextmanager
def serve(
    *vlms: Any,
    shelf: Shelf | None = None,
    models: Models | None = None,
    races: Races | None = None,
    trainings: Trainings | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """The page on a free port, of `models` or of those on a shelf; `settings` beside what a test run needs."""
    from app.api import mcp
    from app.ui import build_demo, launch_options

    if models is None:
        shelf = shelf or Shelf({vlm.model_id: vlm for vlm in vlms})
        models = models_of(shelf, Resources(256 << 20, int(UPLOAD_MB * 2**20)))
    demo = build_demo(models, races, trainings)
    chosen = Settings(port=0, upload_limit=UPLOAD_MB, **settings)
    _, url, _ = demo.launch(**launch_options(chosen), prevent_thread_lock=True)
    if chosen.mcp:
        mcp.finish(demo)
    try:
        yield Served(url, models)
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
def browser() -> Iterator[Browser]:
    """Chromium, whose contexts are `Visitors`."""
    from playwright.sync_api import sync_playwright

    from tests.helpers.visitors import Visitors

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=installed_browser(), args=FLAGS)
        chromium.new_context = Visitors(chromium).open  # type: ignore[assignment, method-assign]
        try:
            yield chromium
        finally:
            chromium.close()
