"""Shared by all tests: one tiny random checkpoint per family, written once and loaded once."""

import io
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from app.web import stubs
from pruning.models import VLM, load
from pruning.models.checkpoint import adapters
from tests.checkpoints import FAMILIES, tiny_qwen2_5_vl
from tests.helpers import workers

LOOKS = [(width, theme) for width in (1440, 390) for theme in ("light", "dark")]
HEIGHTS = {1440: 900, 390: 844}
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

stubs.skip()  # as `app.py` does, before any file of tests imports Gradio
torch.set_num_threads(1)  # tiny tensors: more threads would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")  # nor in the programs that tests start


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="folder for a picture of every view, in every look")


def pytest_configure(config: pytest.Config) -> None:
    workers.settle_in(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return workers.CORES + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return workers.FromBothEnds(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever opens the browser is marked so, however it comes to it; files with long tests are begun first.

    A file is run by one process, and nothing is left to do beside a long one that is begun last.
    """
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
    long = {item.path for item in items if item.get_closest_marker("browser") or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Any:
    with workers.turn(item.config):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    with workers.turn(item.config, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Any:
    with workers.turn(item.config):
        return (yield)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen2_5_vl(tmp_path_factory.mktemp("models") / "tiny-qwen2.5-vl")


@pytest.fixture(scope="session")
def tiny_vlm(tiny_folder: Path) -> VLM:
    return load(tiny_folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_vlm: VLM) -> Callable[[str], VLM]:
    """tiny(family) -> the tiny checkpoint of a family, written and loaded once."""

    @cache
    def opened(family: str) -> VLM:
        if family == "qwen2.5-vl":
            return tiny_vlm
        return load(FAMILIES[family](tmp_path_factory.mktemp("models") / f"tiny-{family}"))

    return opened


@pytest.fixture(scope="session", params=FAMILIES)
def any_vlm(request: pytest.FixtureRequest, tiny: Callable[[str], VLM]) -> VLM:
    """Every family in turn."""
    return tiny(request.param)


@pytest.fixture(scope="session", params=["qwen2.5-vl", "qwen2-vl"])
def qwen_vlm(request: pytest.FixtureRequest, tiny: Callable[[str], VLM]) -> VLM:
    """The families whose image is one grid, as fine as the image is large."""
    return tiny(request.param)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the client of `hub` keeps its cache."""
    return tmp_path / "home"


@pytest.fixture
def hub(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    """A hub over loopback that the real client asks; its repositories are folders that a test makes."""
    from pruning.models.checkpoint import reach
    from tests.helpers.hub import ask_there, serving

    with serving(tmp_path / "hub") as running:
        ask_there(monkeypatch, running, home)
        yield running
    reach.forget()


@pytest.fixture
def peft(monkeypatch) -> list[str]:
    """A peft that is there whether it is or not, and records the folders that it is given."""
    given: list[str] = []

    def apply(model, folder: str) -> SimpleNamespace:
        given.append(folder)
        return SimpleNamespace(missing_keys=set(), unexpected_keys=set(), mismatched_keys=set())

    monkeypatch.setattr(adapters, "available", lambda: True)
    monkeypatch.setattr("transformers.PreTrainedModel.load_adapter", apply)
    return given


@pytest.fixture(scope="session")
def noise():
    """noise(width, height, seed) -> RGB image of random pixels."""

    def make(width: int, height: int, seed: int = 0) -> Image.Image:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return make


@pytest.fixture
def saved(tmp_path: Path, noise):
    """saved(seed, size) -> path of a PNG of random pixels."""

    def save(seed: int = 0, size: tuple[int, int] = (224, 168)) -> str:
        path = tmp_path / f"{seed}-{size[0]}.png"
        noise(*size, seed).save(path)
        return str(path)

    return save


@pytest.fixture(scope="session")
def uploads(tmp_path_factory: pytest.TempPathFactory):
    """Uploads go to a folder of the test run's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        yield


@pytest.fixture(scope="session")
def served(tiny_vlm: VLM, uploads: None):
    """The running app with the tiny model, whose answers are long enough to be stopped."""
    from tests.helpers.serving import serve

    with serve(tiny_vlm) as running:
        yield running


@pytest.fixture(scope="session")
def shipped_page(uploads: None, tmp_path_factory: pytest.TempPathFactory):
    """The running app as `python app.py` opens it: with the shipped model, a race that was run, and a training run."""
    from app.race.runs import Races
    from app.training.runs import Trainings
    from tests.helpers.races import scenes_run
    from tests.helpers.serving import serve
    from tests.helpers.trainings import keep, trained

    vlm, runs = load(), tmp_path_factory.mktemp("runs")
    scenes_run(runs / "scenes-1", vlm.model_id)
    run = trained(runs / "covipal-1")
    for step in (50, 100):
        keep(run, step)
    with serve(vlm, races=Races(runs, True), trainings=Trainings(runs)) as running:
        yield running


@pytest.fixture(scope="session")
def chromium():
    """A headless browser, shared; each test opens a context, as `Visitors` does."""
    from tests.helpers.serving import browser

    with browser() as running:
        yield running


@pytest.fixture
def fits(request: pytest.FixtureRequest):
    """fits(tab, view): what the tab shows is no wider than a screen and a phone, in light and dark.

    Keeps a picture of each under --screenshots. `within`: what must not be wider than the window, a selector.
    """
    folder = request.config.getoption("--screenshots")

    def check(tab, view: str, *, full_page: bool = True, within: str = "html") -> None:
        tab.add_style_tag(content="* { transition: none !important; }")
        was = tab.viewport_size, tab.evaluate("document.body.classList.contains('dark')")
        for width, theme in LOOKS:
            look(tab, {"width": width, "height": HEIGHTS[width]}, theme == "dark")
            assert tab.evaluate("(where) => document.querySelector(where).scrollWidth", within) <= width, (view, width)
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
                shot = Image.open(io.BytesIO(tab.screenshot(full_page=full_page)))
                shot.convert("RGB").save(folder / f"{view}-{width}-{theme}.webp", quality=90)
        look(tab, *was)

    def look(tab, size: dict[str, int], dark: bool) -> None:
        tab.set_viewport_size(size)
        tab.evaluate("(dark) => document.body.classList.toggle('dark', dark)", dark)
        tab.evaluate(FRAMES)

    return check


@pytest.fixture
def slow_model(served, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every token of the served model takes 0.2 s: the returned list holds the seconds, none once it is empty."""
    slow, generate = [0.2], served.engine.vlm.generate

    def crawl(*values, **named):
        for chunk in generate(*values, **named):
            time.sleep(*slow or [0])
            yield chunk

    monkeypatch.setattr(served.engine.vlm, "generate", crawl)
    return slow
