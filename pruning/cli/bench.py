"""`bench methods`: how long each method takes to select, beyond its similarity matrices, on random tokens.

A similarity matrix is a matrix product that `VisualTokens` computes once, for all methods and budgets; what the
projector costs is the model's. Both are timed apart from the selection.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from pruning.budget import keep_count
from pruning.evaluation import synthetic
from pruning.evaluation.timing import Stopwatch, Timing, machine, measure
from pruning.grids import Grid
from pruning.method import Method
from pruning.ops import scaling
from pruning.tokens import VisualTokens

WIDTH = 2048  # D of Qwen2.5-VL-3B
ALIKE = 0.85  # cosine of tokens at the same place of two frames


@dataclass(frozen=True)
class Row:
    """Times of one method in milliseconds. `select`: all but what the other two columns hold, which are medians."""

    method: str
    title: str
    select: Timing
    matrices_ms: float
    projector_ms: float


def bench(
    methods: Sequence[Method], n: int, retention: float, repeats: int, threads: int, frames: int = 1
) -> dict[str, Any]:
    """Every method's selection times at N = n tokens of width `WIDTH`, fastest first; what JSON can hold.

    frames: of a clip that the tokens belong to, of one scene: a token and the next at its place have a cosine of about
    ALIKE. `threads` holds for the whole process from here on. Raises ValueError for n, frames, repeats or threads below
    1, tokens that frames do not divide, or a retention outside (0, 1].
    """
    if min(n, frames, repeats, threads) < 1:
        raise ValueError(f"{n} tokens, {frames} frames, {repeats} repeats, {threads} threads: each must be at least 1")
    if n % frames:
        raise ValueError(f"{n} tokens are no whole number for each of {frames} frames: name a multiple of {frames}")
    torch.set_num_threads(threads)
    budget, each = keep_count(n, retention), n // frames
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(n, WIDTH, generator=draw)
    if frames > 1:
        scene = torch.randn(each, WIDTH, generator=draw).repeat(frames, 1)
        features = ALIKE**0.5 * scene + (1 - ALIKE) ** 0.5 * features
    height = max(h for h in range(1, int(each**0.5) + 1) if each % h == 0)
    grid = (Grid(frames, height, each // height),)
    rows = [_row(method, synthetic.tokens(features, grid, method.needs), budget, repeats) for method in methods]
    rows.sort(key=lambda row: row.select.median_ms)
    return {
        "machine": machine(),
        "n": n,
        "frames": frames,
        "width": WIDTH,
        "budget": budget,
        "repeats": repeats,
        "median_ms": statistics.median(row.select.median_ms for row in rows),
        "rows": [asdict(row) for row in rows],
    }


def table(result: dict[str, Any]) -> str:
    """`bench`'s result in Markdown."""
    moves = f" in {result['frames']} frames" if result["frames"] > 1 else ""
    lines = [
        f"N = {result['n']:,}{moves}, keep {result['budget']:,}, D = {result['width']:,}; {result['machine']}; "
        f"medians of {result['repeats']} runs in ms",
        "",
        "| method | selection | range | its similarity matrices | projector |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        select = row["select"]
        apart = " | ".join(f"{row[name]:.1f}" if row[name] else "–" for name in ("matrices_ms", "projector_ms"))
        times = f"{select['median_ms']:.2f} | {select['low_ms']:.2f} to {select['high_ms']:.2f}"
        lines.append(f"| {row['title']} | {times} | {apart} |")
    slowest = result["rows"][-1]
    lines += [
        "",
        f"The median method takes {result['median_ms']:.2f} ms beyond its similarity matrix, the slowest "
        f"({slowest['title']}) {slowest['select']['median_ms']:.1f} ms.",
    ]
    return "\n".join(lines)


def _row(method: Method, tokens: VisualTokens, budget: int, repeats: int) -> Row:
    signals = dict(tokens.signals)
    projector = Stopwatch(signals["projector"]) if "projector" in signals else None
    if projector is not None:
        signals["projector"] = projector
    fresh = replace(tokens, signals=signals)
    method.select(fresh, budget)  # compiles what is not compiled yet, and computes the similarities that are read
    selects, projections = [], []
    for _ in range(repeats):
        if projector is not None:
            projector.seconds = 0.0
        start = time.perf_counter()
        method.select(fresh, budget)
        projections.append(projector.seconds if projector is not None else 0.0)
        selects.append(time.perf_counter() - start - projections[-1])
    matrices = [measure(partial(scaling.cosine_similarity, x.flatten(1)), repeats).median_ms for x in fresh.compared]
    projector_ms = statistics.median(projections) * 1e3
    return Row(method.name, method.title, Timing.of(selects), sum(matrices), projector_ms)
