"""How fast the page follows: slider to overlay on the server, and both trade-off views.

    python -m benchmarks.app [--model FOLDER] [--moves 200]

Slider → overlay is the handler itself, cached image, from values in to HTML out: slice of the cached order (or one new
order per λ), drawing, JPEG, base64. The queue and the browser come on top. N = 1,296 is a 1,008 x 1,008 px image.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from app import tradeoff
from app.controls import Board
from app.device import Task
from app.engine import Engine
from app.examples import EXAMPLES
from app.handlers import Handlers
from app.loader import Loader, listed
from app.models import Models
from app.offer import Offer
from app.resources import Resources
from app.session import Session, Setting
from app.settings import Settings
from pruning.charts import PAGE
from pruning.importance import raw_importance
from pruning.models import SHIPPED
from pruning.pareto import RETENTIONS, plane_methods, plane_sweep

SIDE, TOKENS = 1008, 1296


def milliseconds(work: Callable[[int], object], runs: int) -> dict[str, float]:
    """Median and 95th percentile of `work(i)`, in ms, after three runs that do not count."""
    for i in range(3):
        work(i)
    times = []
    for i in range(runs):
        start = time.perf_counter()
        work(i)
        times.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": round(float(np.median(times)), 2), "p95_ms": round(float(np.percentile(times, 95)), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(SHIPPED), help="folder of a checkpoint (default: the shipped one)")
    parser.add_argument("--moves", type=int, default=200, help="slider moves to time")
    given = parser.parse_args()
    loader = Loader(Settings(model=given.model, device="cpu"))
    vlm = loader.load(given.model)
    # The shipped model's own limit is 400 tokens; the overlay's cost does not depend on what the features say.
    vlm.image_processor.size = {"shortest_edge": vlm.image_processor.size["shortest_edge"], "longest_edge": SIDE * SIDE}
    resources = Resources(1 << 30)
    models = Models(listed([given.model]), vlm, loader, resources)
    board = Board()
    handlers = Handlers(models, board)
    with models.use(models.first, "benchmark") as (engine, offer):
        print(json.dumps(measured(models, engine, offer, board, handlers, given.moves), indent=2, ensure_ascii=False))


def measured(
    models: Models, engine: Engine, offer: Offer, board: Board, handlers: Handlers, moves: int
) -> dict[str, object]:
    """Name -> what was measured."""
    resources = models.resources
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.png"
        cv2.imwrite(str(large), cv2.resize(cv2.imread(EXAMPLES[0].path), (SIDE, SIDE)))
        session = Session(models.first, (resources.pictures.open(str(large))[0],))
        result["tokens"] = n = engine.encoded(session).tokens.n
        if n != TOKENS:
            raise SystemExit(f"{models.first} makes {n} visual tokens of {SIDE} x {SIDE} px, not {TOKENS}")
        knobs = board.defaults(offer)
        for style in ("dimmed", "grid", "heat", "order"):

            def retention(i: int, style: str = style) -> object:
                return handlers.overlay(
                    None, session, "idpruner", style, "sample", 0.5, 0.5, 0.05 + i % 90 / 100, *knobs
                )

            result[f"retention → overlay, {style}"] = milliseconds(retention, moves)

        def weight(i: int) -> object:
            weights = ((i * 7 % 101) / 100, 0.51)
            return handlers.overlay(None, session, "idpruner", "dimmed", "sample", *weights, 0.25, *knobs)

        result["weight → overlay, each λ new or cached"] = milliseconds(weight, min(100, moves))

    picture, _ = resources.pictures.open(EXAMPLES[0].path)
    session = Session(models.first, (picture,), EXAMPLES[0].questions[:1])
    method = board.method(offer, "idpruner", 1, 1, board.defaults(offer))
    engine.tokens(session, method.needs)
    tradeoff.plane(engine, session, Setting(method, 0.5))  # compiles the kernels
    start = time.perf_counter()
    points = tradeoff.plane(engine, session, Setting(method, 0.25))
    swept = time.perf_counter()
    tradeoff.plane_chart(points, PAGE).svg()
    result["plane"] = {
        "points": len(points),
        "sweep_s": round(swept - start, 3),
        "draw_s": round(time.perf_counter() - swept, 3),
    }
    source = engine.default_source
    tokens = engine.tokens(session, method.needs)
    importance = raw_importance(tokens, source, "benchmark")
    start = time.perf_counter()
    everywhere = plane_sweep(tokens, importance, plane_methods(source), retentions=RETENTIONS)
    result["plane, every retention"] = {"points": len(everywhere), "sweep_s": round(time.perf_counter() - start, 3)}
    names = ["idpruner", "greedy_importance", "divprune", "random", "uniform"]
    methods = tradeoff.sweep_methods(offer, names, method)[0]
    start, first = time.perf_counter(), None
    for progress in tradeoff.sweep(engine, session, methods, Task()):
        if progress.points and first is None:
            first = time.perf_counter() - start
    result["fidelity curves"] = {"points": len(progress.points), "first_s": round(first or 0, 3),
                                 "all_s": round(time.perf_counter() - start, 3)}  # fmt: skip
    return result


if __name__ == "__main__":
    main()
