"""The same work without a browser: `python -m pruning answer | sweep | scenes | methods`, each with `--help`.

Exit codes: 0 done, 2 bad input (the message says what to change), 1 anything else, 130 interrupted.
"""

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pruning import commands
from pruning.arguments import build_parser
from pruning.method import METHODS, Method
from pruning.models import VLM, hide_progress, limit_threads, load
from pruning.params import params
from pruning.weights import mmr_lambda

LAMBDA = "mmr_lambda"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Results go to stdout, everything else to stderr."""
    options = build_parser().parse_args(arguments)
    try:
        {"answer": _answer, "sweep": _sweep, "scenes": _scenes, "methods": _table_of_methods}[options.command](options)
    except ValueError as error:
        return _fail(2, str(error))
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    except (RuntimeError, OSError, MemoryError) as error:
        return _fail(1, f"{type(error).__name__}: {error}")
    return 0


def _knobs(options: argparse.Namespace) -> dict[str, Any]:
    """Knobs that were given, λ from the weights included."""
    given = {name: value for name in options.knobs if (value := getattr(options, name)) is not None}
    weights = (options.importance_weight, options.diversity_weight)
    if weights != (None, None):
        if LAMBDA in given:
            raise ValueError("--mmr-lambda and the two weights say the same thing: give one or the other")
        given[LAMBDA] = mmr_lambda(*(1.0 if weight is None else weight for weight in weights))
    return given


def _own(name: str, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the knobs that the method has: several methods share one command line."""
    known = {param.name for param in params(METHODS[name])}
    return {key: value for key, value in knobs.items() if key in known}


def _model(options: argparse.Namespace) -> VLM:
    hide_progress()
    vlm = load(options.model, device=options.device, dtype=options.dtype)
    limit_threads(vlm)
    if "scorer" not in vlm.signals and options.importance is None:
        _note(f"{vlm.title} has no trained scorer: importance is the attention received in its last vision layer")
    return vlm


def _answer(options: argparse.Namespace) -> None:
    commands.check_path(options.overlay, *commands.PICTURES)
    knobs = _knobs(options)
    if options.mmr_lambda is None and LAMBDA in knobs and LAMBDA not in _own(options.method, knobs):
        _note(f"{options.method} has no λ: the two weights change nothing")
        del knobs[LAMBDA]
    vlm = _model(options)
    method = commands.build_method(vlm, options.method, knobs)
    result = commands.answer(
        vlm,
        options.image,
        options.question,
        method,
        options.retention,
        max_new_tokens=options.max_new_tokens,
        overlay=options.overlay,
        style=options.style,
    )
    for note in result["notes"]:
        _note(note)
    if options.json:
        _print(json.dumps(result, ensure_ascii=False))
        return
    full, pruned = result["full"], result["pruned"]
    _print(f"all {result['tokens']} tokens:  {full['text']}")
    _print(f"{result['kept']} tokens kept: {pruned['text']}")
    _print(f"agreement: {'yes' if result['agreement'] else 'no'}, fidelity {result['fidelity']:.3f}")
    for name, label, unit in (("prefill_flops", "prefill GFLOPs", 1e9), ("kv_cache_bytes", "KV cache, KiB", 1024)):
        _print(f"{label}: {full[name] / unit:.2f} -> {pruned[name] / unit:.2f} ({pruned[name] / full[name] - 1:+.0%})")
    gain = "" if pruned["ttft_s"] < full["ttft_s"] else " (no gain at this size)"
    _print(f"time to first token, median of {commands.TIMINGS}: {full['ttft_s'] * 1e3:.1f} -> "
           f"{pruned['ttft_s'] * 1e3:.1f} ms{gain}; encoding {result['encode_s'] * 1e3:.1f} ms, "
           f"selection {result['select_s'] * 1e3:.1f} ms")  # fmt: skip
    if result["overlay"]:
        _print(f"overlay: {result['overlay']}")


def _sweep(options: argparse.Namespace) -> None:
    commands.check_path(options.png, *commands.PICTURES)
    commands.check_path(options.csv)
    knobs, vlm = _knobs(options), _model(options)
    methods = _methods(options, vlm, knobs)
    points = commands.sweep(
        vlm, options.image, options.question, methods, options.retention, options.at, options.png, _progress
    )
    _rows(options, [asdict(point) for point in points])
    if options.png is not None:
        _note(f"written: {options.png}")


def _scenes(options: argparse.Namespace) -> None:
    commands.check_path(options.csv)
    knobs, vlm = _knobs(options), _model(options)
    methods = _methods(options, vlm, knobs)
    _rows(options, commands.scenes(vlm, methods, options.retention, options.scenes, options.per_family, _progress))


def _table_of_methods(_options: argparse.Namespace) -> None:
    _print(commands.method_table())


def _methods(options: argparse.Namespace, vlm: VLM, knobs: Mapping[str, Any]) -> list[Method]:
    """The chosen methods; one that needs what the model lacks is left out with a note."""
    names = sorted(METHODS) if "all" in options.methods else list(dict.fromkeys(options.methods))
    methods = [commands.build_method(vlm, name, _own(name, knobs)) for name in names]
    for method in methods:
        if not method.needs <= vlm.signals:
            _note(f"{method.title} is left out: {vlm.title} lacks {', '.join(sorted(method.needs - vlm.signals))}")
    return [method for method in methods if method.needs <= vlm.signals]


def _rows(options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """The table as a CSV file where one is named, as JSON where that is asked for, else as CSV on stdout."""
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            _table(file, rows)
        _note(f"written: {options.csv}")
    if options.json:
        _print(json.dumps(rows, ensure_ascii=False))
    elif options.csv is None:
        _table(sys.stdout, rows)


def _table(file: Any, rows: Sequence[dict[str, Any]]) -> None:
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {total}" + ("\n" if done == total else ""))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


def _fail(code: int, message: str) -> int:
    _note(f"error: {message}")
    return code


if __name__ == "__main__":
    sys.exit(main())
