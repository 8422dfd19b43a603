"""The same work without a browser: `python -m pruning answer | sweep | scenes`. `--help` after any of them says more.

Exit codes: 0 done, 2 bad input (the message says what to change), 1 anything else, 130 interrupted.
"""

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pruning import commands
from pruning.draw import STYLES
from pruning.method import METHODS, Method
from pruning.models import SHIPPED, VLM, hide_progress, load
from pruning.params import Param, params
from pruning.pareto import RETENTIONS
from pruning.weights import mmr_lambda

LAMBDA = "mmr_lambda"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Results go to stdout, everything else to stderr."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:
        return _fail(2, str(error))
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    except (RuntimeError, OSError, MemoryError) as error:
        return _fail(1, f"{type(error).__name__}: {error}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; the knobs of the methods come from the registry."""
    parser = argparse.ArgumentParser(
        "python -m pruning", description="Visual token pruning without a browser.", allow_abbrev=False
    )
    kinds = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = kinds.add_parser("answer", allow_abbrev=False,
                               help="answer a question on all and on the kept tokens; draw what is kept")  # fmt: skip
    _add_image(one)
    one.add_argument("--method", default="idpruner", choices=sorted(METHODS), help="default: %(default)s")
    one.add_argument("--retention", type=float, default=0.25, help="share of tokens kept, default: %(default)s")
    _add_weights(one)
    _add_knobs(one)
    one.add_argument("--overlay", type=Path, metavar="FILE", help="write the overlay there (.png or .jpg)")
    one.add_argument("--style", default="dimmed", choices=sorted(STYLES), help="of the overlay, default: %(default)s")
    one.add_argument("--max-new-tokens", type=int, default=64, help="length of an answer, default: %(default)s")
    one.set_defaults(run=_answer)

    many = kinds.add_parser("sweep", allow_abbrev=False,
                                help="measure the trade-off curves of one image and question")  # fmt: skip
    _add_image(many)
    _add_methods(many, commands.CURVES)
    many.add_argument("--retention", type=float, nargs="+", default=list(RETENTIONS), help="default: %(default)s")
    many.add_argument("--at", type=float, default=0.25, help="retention of the drawn plane, default: %(default)s")
    many.add_argument("--csv", type=Path, metavar="FILE", help="write all points there")
    many.add_argument("--png", type=Path, metavar="FILE", help="draw both charts there")
    many.set_defaults(run=_sweep)

    bench = kinds.add_parser("scenes", allow_abbrev=False,
                             help="accuracy on held-out scenes, per question family")  # fmt: skip
    _add_model(bench)
    _add_methods(bench, commands.CURVES)
    bench.add_argument("--retention", type=float, nargs="+", default=[0.25, 0.1], help="default: %(default)s")
    bench.add_argument("--scenes", type=int, default=240, help="scenes to ask about, default: %(default)s")
    bench.add_argument(
        "--per-family", type=int, default=1, help="questions of each family a scene, default: %(default)s"
    )
    bench.add_argument("--csv", type=Path, metavar="FILE", help="write the table there")
    bench.set_defaults(run=_scenes)

    table = kinds.add_parser("methods", allow_abbrev=False, help="the table of the methods, in Markdown")
    table.set_defaults(run=lambda _: _print(commands.method_table()))
    return parser


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="an image file")
    parser.add_argument("question", metavar="QUESTION")
    _add_model(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=str(SHIPPED), help="folder or hub id, default: the shipped model")
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda, cuda:N; default: %(default)s")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_methods(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    about = f"all, or some of: {', '.join(sorted(METHODS))}; default: {' '.join(default)}"
    names = [*sorted(METHODS), "all"]
    parser.add_argument("--methods", nargs="+", default=list(default), metavar="METHOD", choices=names, help=about)
    _add_weights(parser)
    _add_knobs(parser)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("weights", "λ = importance / (importance + diversity), 1 and 1 unless given")
    group.add_argument("--importance-weight", type=float, metavar="W")
    group.add_argument("--diversity-weight", type=float, metavar="W")


def _add_knobs(parser: argparse.ArgumentParser) -> None:
    """One option per knob name of any method; a choice allows what any method with this knob allows."""
    found: dict[str, list[tuple[str, Param]]] = {}
    for name, method in METHODS.items():
        for param in params(method):
            found.setdefault(param.name, []).append((name, param))
    group = parser.add_argument_group("knobs of the methods")
    for name, uses in sorted(found.items()):
        first = uses[0][1]
        choices = sorted({choice for _, param in uses for choice in param.choices}) or None
        about = f"{first.help or first.label} (default {first.default}; {', '.join(m for m, _ in uses)})"
        kind = {"float": float, "int": int, "choice": str}[first.kind]
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, choices=choices, help=about.replace("%", "%%"))
    parser.set_defaults(knobs=tuple(found))


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
