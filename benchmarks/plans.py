"""What leaves between layers saves, beside what leaves before them, on a model of true shape with random weights.

    python -m benchmarks.plans --tokens 1296 [--shape qwen2.5-vl-0.5b] [--repeats 3] [--out FOLDER]

Published schedules, and for each of them IDPruner before the language model at the same equivalent retention. Every
repeat measures all settings in turn, so that they meet the same machine; shown are medians. Time to first token is wall
time; on a CPU the processor time of the whole call stands beside it, which other programs on the machine disturb less.
The FLOPs ratio of the prefill is the limit of both. A cut's cost is the time inside its hooks (rows of attention, the
rule, shortening), as a share of the prefill that the plan saves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import QUESTION, machine_name
from benchmarks.shapes import SHAPES, build_model, picture
from pruning.choosing import Runs, came_to, choose
from pruning.cli import console
from pruning.evaluation.answered import side
from pruning.method import make
from pruning.models import VLM, Answer, ConversationCache, Encoded
from pruning.models.checkpoint.devices import DTYPES, choose_device
from pruning.models.language.generation import synchronize
from pruning.models.language.passes import First
from pruning.published import PUBLISHED

SCHEDULES = ("fastv-published", "pyramiddrop-published")


@dataclass(frozen=True)
class Row:
    """One setting; times are medians in ms. kv_ratio, limit: all tokens over this one, measured and counted."""

    name: str
    equivalent: float
    alive: tuple[int, ...]
    ttft_ms: float
    speed_up: float
    cpu_ms: float
    cpu_speed_up: float
    limit: float
    kv_bytes: int
    kv_ratio: float
    cut_ms: float  # 0 where nothing leaves between layers
    cut_share: float | None  # of the prefill's time that it saves


class Watch:
    """Seconds spent in functions that it has wrapped, by a clock, one inside another counted once."""

    def __init__(self, clock: Callable[[], float]):
        self.clock, self.seconds, self._depth = clock, 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            start, self._depth = self.clock(), self._depth + 1
            try:
                return function(*given)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += self.clock() - start

        return run


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """While open, what the first pass of a plan does beside the model's own work is timed."""
    before, others = First.before, First.others
    First.before = lambda self, i: watch.timed(before(self, i))  # type: ignore[method-assign]
    First.others = lambda self: ((m, watch.timed(hook)) for m, hook in others(self))  # type: ignore[method-assign]
    try:
        yield
    finally:
        First.before, First.others = before, others  # type: ignore[method-assign]


def settings(encoded: Encoded, layers: int) -> dict[str, Runs | None]:
    """What is measured, by name; None: all tokens."""
    found: dict[str, Runs | None] = {"all tokens": None}
    for name in SCHEDULES:
        found[name] = plan = choose(PUBLISHED[name], encoded.tokens, layers)
        retention, one_shot = came_to(plan, layers, encoded.tokens.n), make("idpruner")
        found[f"idpruner at {retention:.3f}"] = choose(one_shot, encoded.tokens, layers, retention)
    return found


def measure(vlm: VLM, tokens: int, repeats: int) -> list[Row]:
    """A row for all tokens, then for each schedule and its one-shot partner."""
    encoded = vlm.encode([picture(tokens)], frozenset({"scorer"}))
    if encoded.tokens.n != tokens:
        raise RuntimeError(f"the picture gave {encoded.tokens.n} visual tokens, not {tokens}")
    kept = settings(encoded, vlm.layers)
    clock, runs = _clock(vlm.device), {name: list[_Run]() for name in kept}
    _run(vlm, encoded, choose(make("uniform"), encoded.tokens, vlm.layers, 0.05), clock)  # warms up
    for _ in range(repeats):
        for name, each in kept.items():
            runs[name].append(_run(vlm, encoded, each, clock))
    whole = runs["all tokens"]
    return [_row(vlm, tokens, name, kept[name], whole, own) for name, own in runs.items()]


@dataclass(frozen=True)
class _Run:
    answer: Answer
    cpu_s: float
    cut_s: float
    kv_bytes: int


def _run(vlm: VLM, encoded: Encoded, kept: Runs | None, clock: Callable[[], float]) -> _Run:
    memory, watch, start = ConversationCache(), Watch(clock), clock()
    with watched(watch):
        answer = vlm.answer(encoded, QUESTION, kept, memory=memory, max_new_tokens=1)
    return _Run(answer, clock() - start, watch.seconds, memory.nbytes)


def _row(vlm: VLM, n: int, name: str, kept: Runs | None, whole: Sequence[_Run], own: Sequence[_Run]) -> Row:
    def median(runs: Sequence[_Run], of: Callable[[_Run], float]) -> float:
        return statistics.median(map(of, runs))

    ttft, all_ttft = (median(runs, lambda run: run.answer.ttft_s) for runs in (own, whole))
    cpu, all_cpu = (median(runs, lambda run: run.cpu_s) for runs in (own, whole))
    cut, trace = median(own, lambda run: run.cut_s), own[0].answer.trace
    flops, all_flops = (side(vlm, runs[0].answer).flops for runs in (own, whole))
    entered = n if kept is None else getattr(kept, "k", n)
    saved = all_cpu - (cpu - cut)
    return Row(
        name=name,
        equivalent=1.0 if kept is None else came_to(kept, vlm.layers, n),
        alive=trace.alive if trace else (entered,) * vlm.layers,
        ttft_ms=ttft * 1e3,
        speed_up=all_ttft / ttft,
        cpu_ms=cpu * 1e3,
        cpu_speed_up=all_cpu / cpu,
        limit=all_flops / flops,
        kv_bytes=own[0].kv_bytes,
        kv_ratio=whole[0].kv_bytes / own[0].kv_bytes,
        cut_ms=cut * 1e3,
        cut_share=cut / saved if trace and saved > 0 else None,
    )


def _clock(device: torch.device) -> Callable[[], float]:
    """Seconds: of the processor on a CPU, of the wall once the device is done elsewhere."""
    if device.type == "cpu":
        return time.process_time

    def wall() -> float:
        synchronize(device)
        return time.perf_counter()

    return wall


def markdown(machine: str, rows: Sequence[Row]) -> str:
    """The table as docs/measured.md shows it."""
    head = ("| setting | equivalent | TTFT ms | speed-up | CPU ms | speed-up | FLOPs limit | KV MB | ratio | cuts ms | "
            "of what is saved |")  # fmt: skip
    lines = [machine, "", head, "|" + "---|" * head.count(" |")]
    for r in rows:
        cut = ["–", "–"] if r.cut_share is None else [f"{r.cut_ms:.0f}", f"{r.cut_share:.1%}"]
        times = [f"{r.ttft_ms:.0f}", f"{r.speed_up:.2f}", f"{r.cpu_ms:.0f}", f"{r.cpu_speed_up:.2f}"]
        held = [f"{r.kv_bytes / 1e6:.1f}", f"{r.kv_ratio:.2f}"]
        cells = [r.name, f"{r.equivalent:.3f}", *times, f"{r.limit:.2f}", *held, *cut]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-vl-0.5b")
    parser.add_argument("--tokens", type=int, default=1296, help="visual tokens, default: 1296")
    parser.add_argument("--vision-depth", type=int, default=2, help="of the tower, which is not what is measured")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write plans.json and plans.md there as well")
    options = parser.parse_args(arguments)
    device, dtype = choose_device(options.device), DTYPES[options.dtype]
    vlm = build_model(options.shape, device, dtype, options.vision_depth, options.tokens)
    rows = measure(vlm, options.tokens, options.repeats)
    where = f"{machine_name(device)}, torch {torch.__version__}"
    machine = f"{options.shape} in {options.dtype}, {where}, {options.repeats} repeats"
    found: dict[str, Any] = {"machine": machine, "tokens": options.tokens, "rows": [asdict(row) for row in rows]}
    table, data = markdown(machine, rows), json.dumps(found, ensure_ascii=False, indent=1)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "plans.md").write_text(table + "\n", encoding="utf-8")
        (options.out / "plans.json").write_text(data + "\n", encoding="utf-8")
    print(console.as_json(found, indent=1) if options.json else table)


if __name__ == "__main__":
    main()
