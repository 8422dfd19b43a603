"""One selection from the features alone against one that makes the similarity matrix first: what `spreading` rests on.

    python -m benchmarks.lazy [--shape 1296x2048 4096x3584] [--keep 0.1 0.25 1] [--picture photo.png] [--repeats 5]

Both from the features, in one process, in turns; wall and processor time, medians. The first selection without the
matrix is made before anything else has held memory: what it holds above the features is told too.
Features are random with a common part that gives two tokens a cosine of a half, or a picture's in the shipped model.
A row says of how many picks both ways agree: all, unless two scores are within 1e-6.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import report
from pruning import ops
from pruning.budget import keep_count
from pruning.cli import console
from pruning.evaluation import peak
from pruning.images import open_image
from pruning.models import SHIPPED, load
from pruning.ops import lazy, rows, scaling

SHAPES, KEEP = ("1296x2048", "4096x3584"), (0.1, 0.25, 1.0)
MMR_LAMBDA = 0.5
REACH = 0.25  # of thin_out: AgilePruner's largest


@dataclass(frozen=True)
class Cost:
    """Medians."""

    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True)
class Row:
    rule: str
    n: int
    width: int
    k: int
    agree: int
    matrix: Cost
    lazy: Cost

    @property
    def times(self) -> float:
        return self.matrix.wall_ms / self.lazy.wall_ms


def common(n: int, width: int) -> Tensor:
    """(N, D): random rows on a common part of the same length."""
    draw = torch.Generator().manual_seed(n)
    return torch.randn(n, width, generator=draw) + torch.randn(1, width, generator=draw)


def in_turns(first: Callable[[], Tensor], second: Callable[[], Tensor], repeats: int) -> tuple[Cost, Cost, int]:
    """Of both what they cost, and how many of their picks are the same."""
    found = first(), second()
    times: tuple[list[tuple[float, float]], ...] = ([], [])
    for _ in range(repeats):
        for run, mine in zip((first, second), times, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            mine.append((time.perf_counter() - wall, time.process_time() - cpu))
    matrix, own = (Cost(*(round(1e3 * statistics.median(one), 3) for one in zip(*mine, strict=True))) for mine in times)
    return matrix, own, int((found[0] == found[1]).sum())


def measured(features: Tensor, keep: float, repeats: int) -> Iterator[Row]:
    n, width = features.shape
    k, importance = keep_count(n, keep), torch.rand(n, generator=torch.Generator().manual_seed(0))
    ranked, reach = ops.topk(importance, n), torch.full((n,), REACH)
    alike = scaling.cosine_similarity
    rules: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "mmr": (
            lambda: ops.mmr(importance, alike(features), k, MMR_LAMBDA),
            partial(lazy.mmr, importance, features, k, MMR_LAMBDA),
        ),
        "farthest_point": (lambda: ops.farthest_point(alike(features), k), partial(lazy.farthest_point, features, k)),
        "weighted_farthest_point": (
            lambda: ops.weighted_farthest_point(importance, alike(features), k),
            partial(lazy.weighted_farthest_point, importance, features, k),
        ),
        "thin_out": (
            lambda: ops.thin_out(ranked, alike(features), reach, k),
            partial(lazy.thin_out, ranked, features, reach, k),
        ),
        "least_similar": (
            lambda: ops.least_similar(alike(features), k, 0),
            partial(rows.least_similar, features, k, 0),
        ),
        "dpp": (lambda: ops.dpp(importance, alike(features), k), partial(rows.dpp, importance, features, k)),
        "deduplicate": (
            lambda: ops.deduplicate(ranked, alike(features), k),
            partial(rows.deduplicate, features, ranked, k),
        ),
    }
    for rule, (matrix, own) in rules.items():
        whole, part, agree = in_turns(matrix, own, repeats)
        yield Row(rule, n, width, k, agree, whole, part)


def held(features: Tensor, keep: float) -> float | None:
    """MB that one selection holds above the features; None where it cannot be told."""
    n, cpu = len(features), torch.device("cpu")
    select = partial(lazy.mmr, torch.rand(n), features, keep_count(n, keep), MMR_LAMBDA)
    lazy.mmr(torch.rand(2), features[:2], 1, MMR_LAMBDA)  # compiles
    told, before = peak.begin(cpu), peak.peak_bytes(cpu)
    select()
    after = peak.peak_bytes(cpu)
    return round((after - before) / 1e6, 1) if told and before is not None and after is not None else None


def _of_picture(path: Path) -> Tensor:
    return load(SHIPPED).encode([open_image(path)]).tokens.features


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Selections without the similarity matrix against those with it.")
    parser.add_argument("--shape", nargs="+", default=SHAPES, metavar="NxD", help="default: 1296x2048 4096x3584")
    parser.add_argument("--keep", type=float, nargs="+", default=KEEP, help="shares kept (default: 0.1 0.25 1)")
    parser.add_argument("--picture", type=Path, nargs="*", default=(), help="also by the shipped model's features")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(arguments)
    shapes = [tuple(map(int, shape.split("x"))) for shape in options.shape]
    samples = [common(n, width) for n, width in shapes] + [_of_picture(path) for path in options.picture]
    most, keep = max(samples, key=Tensor.numel), min(options.keep)
    mb = held(most, keep)
    rows = [row for each in samples for share in options.keep for row in measured(each, share, options.repeats)]
    lines = []
    for row in rows:
        times = [f"{cost.wall_ms:.1f} ({cost.cpu_ms:.1f})" for cost in (row.matrix, row.lazy)]
        same = f"{row.agree / row.k:.1%}"
        lines.append((row.rule, f"{row.n:,} × {row.width:,}", f"{row.k:,}", same, *times, f"{row.times:.1f}"))
    head = ("rule", "N × D", "K", "same picks", "matrix, ms (CPU)", "without, ms (CPU)", "×")
    (n, width), words = most.shape, "cannot be told here" if mb is None else f"is {mb:,.0f} MB"
    note = f"What mmr holds above features of {n:,} × {width:,}, {most.numel() * 4 / 1e6:,.0f} MB, at {keep:g} {words}."
    found = [asdict(row) | {"times": round(row.times, 2)} for row in rows]
    report.show({"rows": found, "held_mb": mb}, f"{report.table(head, lines)}\n\n{note}", options.json)


if __name__ == "__main__":
    main()
