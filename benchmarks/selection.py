"""Selection speed given the similarity: this library against the published greedy loop, and against the limit.

    python -m benchmarks.selection [--tokens 256 1296 4096] [--repeats 15] [--json]

The published loop is re-stated here from its description: per pick one full score, one top-k and one `.tolist()`.
Both run on the same tensors in the same process, warmed up; the median of the runs and their range are shown. The
limit is the time to read K rows of the similarity once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pruning import ops
from pruning.cli import console
from pruning.evaluation.plane import LAMBDAS
from pruning.evaluation.timing import Timing, machine, measure
from pruning.ops import scaling

SIZES = (256, 1296, 4096)


@dataclass(frozen=True)
class Row:
    what: str
    n: int
    k: int
    time: Timing
    times_published: float | None = None


def published_loop(importance: Tensor, similarity: Tensor, k: int, mmr_lambda: float) -> Tensor:
    """(k,) int64: one pick at a time, each fetched to the host."""
    taken = torch.zeros(len(importance), dtype=torch.bool)
    closest = torch.full_like(importance, -2.0)
    order: list[int] = []
    score = importance
    while len(order) < k:
        if order:
            score = mmr_lambda * importance - (1 - mmr_lambda) * closest
        pick = torch.topk(score.masked_fill(taken, -torch.inf), 1).indices.tolist()
        order += pick
        taken[pick] = True
        closest = torch.maximum(closest, similarity[:, pick].amax(dim=1))
    return torch.tensor(order)


def read_rows(similarity: Tensor, order: Tensor) -> float:
    """Touch the chosen rows once, with numpy's vectorised sum."""
    rows = similarity.numpy()
    return sum(float(rows[pick].sum()) for pick in order.tolist())


def measured(n: int, repeats: int) -> Iterator[Row]:
    """A quarter of n tokens kept. Raises RuntimeError where the library's picks are not the published loop's."""
    k = n // 4
    generator = torch.Generator().manual_seed(n)
    similarity = scaling.cosine_similarity(torch.randn(n, 64, generator=generator))
    importance = torch.rand(n, generator=generator)
    order = ops.mmr(importance, similarity, k, 0.5)
    if not torch.equal(order, published_loop(importance, similarity, k, 0.5)):
        raise RuntimeError(f"N = {n}: the picks differ from the published loop's")
    loop = measure(lambda: published_loop(importance, similarity, k, 0.5), repeats)
    own = measure(lambda: ops.mmr(importance, similarity, k, 0.5), repeats)
    yield Row("published loop", n, k, loop)
    yield Row("mmr", n, k, own, loop.median_ms / own.median_ms)
    yield Row("read K rows", n, k, measure(lambda: read_rows(similarity, order), repeats))
    yield Row("farthest_point", n, k, measure(lambda: ops.farthest_point(similarity, k), repeats))
    yield Row("dpp", n, k, measure(lambda: ops.dpp(importance, similarity, k), repeats))
    if n <= 1296:
        sweep = measure(lambda: ops.mmr_sweep(importance, similarity, n, LAMBDAS), repeats)
        yield Row(f"mmr_sweep, {len(LAMBDAS)} λ to K = N", n, n, sweep)


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Selection speed against the published greedy loop.")
    parser.add_argument("--tokens", type=int, nargs="+", default=SIZES, help="default: 256 1296 4096")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(arguments)
    rows = [row for n in options.tokens for row in measured(n, options.repeats)]
    if options.json:
        print(console.as_json({"machine": machine(), "rows": [asdict(row) for row in rows]}))
        return
    print(machine())
    print(f"{'N':>5} {'K':>5}  {'what':<26} {'median ms':>10} {'min':>9} {'max':>9}  × published")
    for row in rows:
        ratio = f"{row.times_published:10.1f}" if row.times_published else ""
        times = f"{row.time.median_ms:10.3f} {row.time.low_ms:9.3f} {row.time.high_ms:9.3f}"
        print(f"{row.n:5} {row.k:5}  {row.what:<26} {times}  {ratio}")


if __name__ == "__main__":
    main()
