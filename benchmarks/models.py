"""What pruning saves on a model of true shape: time to first token, memory and KV cache, against the FLOPs ratio.

    python -m benchmarks.models --shape qwen2.5-vl-7b --tokens 1296 4096 [--out FOLDER]

The weights are random and made on the device in bfloat16, so nothing is downloaded; what they answer is nonsense, what
it costs is not. Every repeat measures all tokens and each retention in turn, so that they meet the same machine; shown
are medians with range, synchronised. The FLOPs ratio of the prefill is the limit of its speed-up. Selection (IDPruner
with a random scorer of VisionSelector's shape: similarity and picks) and encoding stand apart.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.shapes import SHAPES, build_model, picture
from pruning.budget import keep_count
from pruning.cli import console
from pruning.evaluation.cost import prefill_flops
from pruning.method import Method, make
from pruning.models import VLM, ConversationCache, Encoded
from pruning.models.checkpoint.devices import DTYPES, choose_device
from pruning.models.language.generation import synchronize
from pruning.tokens import VisualTokens

QUESTION = "what color is the star?"


@dataclass(frozen=True)
class Row:
    """One budget. Times in ms: median, lowest, highest. Bytes: peak is what the prefill took beside the weights.

    ttft_ms: the model's own pass to the first token; call_ms: the whole call, with prompt, rows and their way to the
    device.
    """

    tokens: int
    kept: int
    prefill_tokens: int
    encode_ms: tuple[float, float, float]
    select_ms: tuple[float, float, float] | None
    select_on_device_ms: tuple[float, float, float] | None
    ttft_ms: tuple[float, float, float]
    call_ms: tuple[float, float, float]
    speed_up: float
    limit: float  # FLOPs of the prefill with all tokens, divided by those of this one
    kv_bytes: int
    peak_bytes: int | None  # None where the device does not count


def measure(vlm: VLM, tokens: int, retentions: Sequence[float], repeats: int) -> list[Row]:
    """A row for all tokens, then one per retention."""
    image, method, needs = picture(tokens), make("idpruner"), frozenset({"scorer"})
    encoded = vlm.encode([image], needs)
    if encoded.tokens.n != tokens:
        raise RuntimeError(f"the picture gave {encoded.tokens.n} visual tokens, not {tokens}")
    budgets = [tokens, *(keep_count(tokens, retention) for retention in retentions)]
    kept = {k: None if k == tokens else method.select(encoded.tokens, k).indices for k in budgets}
    times: dict[str, dict[int, list[float]]] = {
        name: {k: [] for k in budgets} for name in ("ttft", "call", "here", "device")
    }
    encodes, peaks, caches, lengths = [], dict.fromkeys(budgets, 0), {}, {}
    for repeat in range(repeats + 1):  # the first one warms up
        seconds = vlm.encode([image], needs).encode_s
        for k in budgets:
            memory = ConversationCache()
            before = _reset_peak(vlm.device)
            start = time.perf_counter()
            answer = vlm.answer(encoded, QUESTION, kept[k], memory=memory, max_new_tokens=1)
            called = time.perf_counter() - start
            peaks[k] = _peak(vlm.device) - before
            caches[k], lengths[k] = memory.nbytes, answer.prefill_tokens
            if not repeat:
                continue
            times["ttft"][k].append(answer.ttft_s * 1e3)
            times["call"][k].append(called * 1e3)
            if k < tokens:
                times["here"][k].append(_select_ms(encoded.tokens, method, k))
                if vlm.device.type != "cpu":
                    times["device"][k].append(_select_ms(_moved(encoded, vlm.device), method, k))
        encodes += [seconds * 1e3] * (repeat > 0)
    whole, flops = statistics.median(times["ttft"][tokens]), prefill_flops(vlm.config, lengths[tokens])
    return [
        Row(
            tokens=tokens,
            kept=k,
            prefill_tokens=lengths[k],
            encode_ms=_spread(encodes),
            select_ms=_spread(times["here"][k]) if times["here"][k] else None,
            select_on_device_ms=_spread(times["device"][k]) if times["device"][k] else None,
            ttft_ms=_spread(times["ttft"][k]),
            call_ms=_spread(times["call"][k]),
            speed_up=whole / statistics.median(times["ttft"][k]),
            limit=flops / prefill_flops(vlm.config, lengths[k]),
            kv_bytes=caches[k],
            peak_bytes=peaks[k] if vlm.device.type == "cuda" else None,
        )
        for k in budgets
    ]


def _moved(encoded: Encoded, device: torch.device) -> VisualTokens:
    scorer = encoded.tokens.signal("scorer").to(device)
    return replace(encoded.tokens, features=encoded.tokens.features.to(device), signals={"scorer": scorer})


def _select_ms(tokens: VisualTokens, method: Method, k: int) -> float:
    """One selection from scratch, the similarity included, until the indices are on the host."""
    fresh = replace(tokens)  # a copy without the computed similarity
    synchronize(tokens.features.device)
    start = time.perf_counter()
    method.select(fresh, k).indices.cpu()
    return (time.perf_counter() - start) * 1e3


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def _reset_peak(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def markdown(machine: str, rows: Sequence[Row]) -> str:
    """The table as docs/measured.md shows it."""
    head = ("| N | kept | encode ms | select ms | select on device ms | TTFT ms (range) | call ms | speed-up | "
            "FLOPs limit | KV MB | peak MB |")  # fmt: skip
    lines = [machine, "", head, "|" + "---|" * head.count(" |")]
    for r in rows:
        middle = [f"{value[0]:.1f}" if value else "" for value in (r.encode_ms, r.select_ms, r.select_on_device_ms)]
        ttft = f"{r.ttft_ms[0]:.1f} ({r.ttft_ms[1]:.1f} – {r.ttft_ms[2]:.1f})"
        peak = "" if r.peak_bytes is None else f"{r.peak_bytes / 1e6:.0f}"
        ratios = [f"{r.speed_up:.2f}×", f"{r.limit:.2f}×"]
        cells = [
            str(r.tokens),
            str(r.kept),
            *middle,
            ttft,
            f"{r.call_ms[0]:.1f}",
            *ratios,
            f"{r.kv_bytes / 1e6:.1f}",
            peak,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-vl-0.5b")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1296], help="visual tokens, default: 1296")
    parser.add_argument("--retention", type=float, nargs="+", default=[0.25, 0.1], help="default: 0.25 0.1")
    parser.add_argument("--vision-depth", type=int, help="a smaller tower: it is not what is measured")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write models.json and models.md there as well")
    options = parser.parse_args(arguments)
    device, dtype = choose_device(options.device), DTYPES[options.dtype]
    vlm = build_model(options.shape, device, dtype, options.vision_depth, max(options.tokens))
    rows = [row for n in options.tokens for row in measure(vlm, n, options.retention, options.repeats)]
    machine = (
        f"{options.shape}, {vlm.memory / 1e9:.2f} GB of weights in {options.dtype}, vision depth "
        f"{vlm.config.vision_config.depth}; {machine_name(device)}, torch {torch.__version__}; "
        f"{options.repeats} repeats"
    )
    found: dict[str, Any] = {"machine": machine, "rows": [asdict(row) for row in rows]}
    table, data = markdown(machine, rows), json.dumps(found, ensure_ascii=False, indent=1)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "models.md").write_text(table + "\n", encoding="utf-8")
        (options.out / "models.json").write_text(data + "\n", encoding="utf-8")
    print(console.as_json(found, indent=1) if options.json else table)


def machine_name(device: torch.device) -> str:
    """The device, in a line."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
