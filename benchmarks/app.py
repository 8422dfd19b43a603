"""What the page asks of the server, each on its own: without queue, network and browser.

    python -m benchmarks.app [--model FOLDER] [--side 448 1008] [--runs 30] [--json]

The canvas redraws sliders in the page (`benchmarks.canvas`); the server gives it its data once for each image and
method, and the exact selection where a slider rests. Overlays that the server paints are those of comparisons, batches
and exports. A side of 448 px is the shipped examples' (256 visual tokens), 1,008 px gives 1,296. Sweeps are timed a
fifth as often.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import gradio as gr

from app.canvas import overlays
from app.canvas import state as canvas_state
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.examples import EXAMPLES
from app.explore.handlers import Handlers
from app.explore.layout import CURVES, DIVERSITY, IMPORTANCE, RETENTION, STYLE, layout
from app.model_pool.loader import Loader, listed
from app.model_pool.pool import Models
from app.session import Session, Setting
from app.settings import Settings
from app.tradeoff import measure as tradeoff_measure
from app.ui import opening
from app.web.controls import Controls
from app.web.events import Told
from benchmarks.report import Times, show, table
from pruning.cli import console
from pruning.drawing import overlays as draw
from pruning.drawing.palettes import PAGE
from pruning.evaluation.plane import RETENTIONS, plane_methods, plane_sweep
from pruning.importance import raw_importance
from pruning.method import make
from pruning.models import hide_progress

SIDES = (448, 1008)
MERGES = "visionzip"  # a method whose groups the style "merged" shows


@dataclass(frozen=True)
class Row:
    """One piece of work on a picture of so many visual tokens."""

    what: str
    tokens: int
    times: Times


@dataclass(frozen=True)
class Bench:
    """A picture that a visitor looks at, and the setting that the page opens with."""

    engine: Engine
    capabilities: Capabilities
    handlers: Handlers
    session: Session
    setting: Setting

    def forget(self) -> None:
        """Hold the encoded picture and its signals, and nothing else of it."""
        self.engine.resources.clear()
        self.engine.tokens(self.session, self.setting.method.needs)

    def settle(self, importance: float, retention: float) -> None:
        """The event of a slider that rests."""
        self.handlers.settle(None, self.session, *self._settings(importance, retention))

    def card(self, token: int) -> None:
        """The event of a patch that is clicked."""
        self.handlers.card(None, Told(data={"token": token}), self.session, *self._settings(IMPORTANCE, RETENTION))

    def _settings(self, importance: float, retention: float) -> tuple[Any, ...]:
        """As the page's controls hand them over."""
        name = self.setting.method.name
        panel = self.handlers.controls.panel(name, {})
        return (name, STYLE, "sample", importance, DIVERSITY, retention, "", "original", panel)


def timed(work: Callable[[int], object], runs: int, before: Callable[[], object] | None = None) -> Times:
    """`work(i)` after one run that does not count; `before`, which does not count either, comes first each time."""
    seconds = []
    for i in range(runs + 1):
        if before is not None:
            before()
        start = time.perf_counter()
        work(i)
        seconds.append(time.perf_counter() - start)
    return Times.of(seconds[1:])


def measured(models: Models, side: int, runs: int) -> list[Row]:
    """Everything on the first example, side x side px, with the start-up model."""
    few = max(1, runs // 5)
    with opened(models, side) as bench:
        tokens = bench.engine.encoded(bench.session).tokens.n
        found = {**canvas(bench, runs), **painted(bench, runs), **planes(bench, few), **curves(bench, few)}
        return [Row(what, tokens, times) for what, times in found.items()]


@contextmanager
def opened(models: Models, side: int) -> Iterator[Bench]:
    """The example in that size, uploaded."""
    controls = Controls()
    with tempfile.TemporaryDirectory() as folder, models.use(models.first, "benchmark") as (engine, capabilities):
        path = Path(folder) / "picture.png"
        cv2.imwrite(str(path), cv2.resize(cv2.imread(EXAMPLES[0].path), (side, side)))
        session = Session(models.first, (models.resources.pictures.open(str(path))[0],), EXAMPLES[0].questions[:1])
        method = controls.named(capabilities, capabilities.methods[0], IMPORTANCE, DIVERSITY, {})
        with gr.Blocks():
            page = layout(controls, opening(models, engine, capabilities, controls))
        yield Bench(engine, capabilities, Handlers(models, controls, page), session, Setting(method, RETENTION))


def canvas(bench: Bench, runs: int) -> dict[str, Times]:
    """What the live canvas asks for."""
    engine, session, setting = bench.engine, bench.session, bench.setting
    needs, tokens = setting.method.needs, engine.encoded(session).tokens.n
    return {
        "new image: vision tower and similarity": timed(
            lambda _: engine.encoded(session, needs).tokens.similarity, runs, engine.resources.clear
        ),
        "new image: the canvas's data, orders at 21 λ": timed(
            lambda _: canvas_state.payload(engine, session, setting), runs, bench.forget
        ),
        "slider rests, λ of the grid": timed(lambda i: bench.settle(IMPORTANCE, (1 + i % 99) / 100), runs),
        "slider rests, a new λ beside the grid": timed(lambda i: bench.settle(0.7 + i / 1e4, RETENTION), runs),
        "patch clicked: its card": timed(lambda i: bench.card(i % tokens), runs),
    }


def painted(bench: Bench, runs: int) -> dict[str, Times]:
    """Overlays that the server paints, the selection given."""
    found = {}
    for style in draw.STYLES:
        setting = Setting(make(MERGES), RETENTION) if style == "merged" else bench.setting

        def paint(_: int, setting: Setting = setting, style: str = style) -> object:
            return overlays.overlays(bench.engine, bench.session, setting, style)

        found[f"overlay painted on the server, {style}"] = timed(paint, runs)
    return found


def planes(bench: Bench, runs: int) -> dict[str, Times]:
    """The importance-diversity plane at the page's budget, and at every budget of the curves."""
    engine, session, setting = bench.engine, bench.session, bench.setting
    source, tokens = engine.default_source, engine.tokens(session, setting.method.needs)
    importance, methods = raw_importance(tokens, source, "benchmark"), plane_methods(source)
    points = tradeoff_measure.plane(engine, session, setting)
    every = len(plane_sweep(tokens, importance, methods, retentions=RETENTIONS))
    return {
        f"plane at one budget, {len(points)} points: sweep": timed(
            lambda _: tradeoff_measure.plane(engine, session, setting), runs, bench.forget
        ),
        f"plane at one budget, {len(points)} points: drawing": timed(
            lambda _: tradeoff_measure.plane_chart(points, PAGE).svg(), runs
        ),
        f"plane at {len(RETENTIONS)} budgets, {every} points: sweep": timed(
            lambda _: plane_sweep(tokens, importance, methods, retentions=RETENTIONS), runs
        ),
    }


def curves(bench: Bench, runs: int) -> dict[str, Times]:
    """The fidelity curves that the page opens with, from the click on: the all-token answer is part of it."""
    names = [name for name in CURVES if name in bench.capabilities.methods]
    methods, _ = tradeoff_measure.sweep_methods(bench.capabilities, names, bench.setting, images=1)
    first, last = [], []
    for _ in range(runs + 1):
        bench.forget()
        start = time.perf_counter()
        seen = [
            time.perf_counter() - start
            for progress in tradeoff_measure.sweep(bench.engine, bench.session, methods, Task())
            if progress.points
        ]
        first.append(seen[0])
        last.append(seen[-1])
    what = f"fidelity curves, {len(methods)} methods x {len(RETENTIONS)} retentions"
    return {f"{what}: first point": Times.of(first[1:]), f"{what}: all": Times.of(last[1:])}


def served(model: str, most: int) -> Models:
    """The models of `python app.py --model`, for pictures of at most `most` pixels a side."""
    loader = Loader(Settings(model=model, device="cpu"))
    allowed = listed([model], loader.fits)
    vlm = loader.load(allowed[0].model_id)
    vlm.world = None  # what it answers about these pictures means nothing, and takes as long as any answer
    # The shipped model's own limit is 400 tokens; the costs do not depend on what the features say.
    least = vlm.image_processor.size["shortest_edge"]
    vlm.image_processor.size = {"shortest_edge": least, "longest_edge": most * most}
    return Models(allowed, vlm, loader, Resources())


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="folder of a checkpoint (default: the shipped one)")
    parser.add_argument("--side", type=int, nargs="+", default=SIDES, help="pixels; default: 448 1008")
    parser.add_argument("--runs", type=int, default=30, help="times that each is timed; default: 30")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(arguments)
    hide_progress()
    models = served(options.model, max(options.side))
    rows = [row for side in options.side for row in measured(models, side, options.runs)]
    cells = [[f"{row.tokens:,}", row.what, *row.times.cells, str(row.times.runs)] for row in rows]
    show({"rows": [asdict(row) for row in rows]}, table(["N", "what", "median", "p95", "runs"], cells), options.json)


if __name__ == "__main__":
    main()
