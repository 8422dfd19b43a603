"""What each command does with its options. Results go to stdout, everything else to stderr."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pruning.budget import check_retention
from pruning.choosing import Asked
from pruning.cli import certificate, console, regret
from pruning.cli import methods as cli_methods
from pruning.cli.answer import answer, elsewhere, text
from pruning.cli.arguments import CURVES, RACED
from pruning.cli.bench import bench, table
from pruning.cli.files import PICTURES, check_path, write_table
from pruning.cli.media import OVERLAYS
from pruning.cli.method_table import method_table
from pruning.cli.recipe import written
from pruning.cli.reproduce import settle
from pruning.cli.reproduce import told as told_row
from pruning.cli.scenes import scenes
from pruning.cli.why import told as told_why
from pruning.cli.why import why
from pruning.handover.parity import made_with, verify
from pruning.handover.recipes import document
from pruning.importance import best_source
from pruning.method import make
from pruning.models import SHIPPED, VLM, hide_progress, limit_threads, load
from pruning.params import LAMBDA
from pruning.race.folder import Run
from pruning.runnable import REGISTERED, asked_for, check_runs
from pruning.scenes.worlds import WORLDS
from pruning.starting import undisturbed
from pruning.weights import mmr_lambda

DIFFERENT = 3  # exit code of `verify` where something differs


def _knobs(options: argparse.Namespace) -> dict[str, Any]:
    """Knobs that were given, λ from the weights included."""
    given = {name: value for name in options.knobs if (value := getattr(options, name)) is not None}
    weights = (options.importance_weight, options.diversity_weight)
    if weights != (None, None):
        if LAMBDA in given:
            raise ValueError("--mmr-lambda and the two weights say the same thing: give one or the other")
        given[LAMBDA] = mmr_lambda(*(1.0 if weight is None else weight for weight in weights))
    return given


def _model(options: argparse.Namespace) -> VLM:
    hide_progress()
    with undisturbed():
        vlm = load(
            options.model,
            device=options.device,
            dtype=options.dtype,
            quantization=options.quantization,
            attention=options.attention,
            device_map=options.device_map,
            scorer=options.scorer,
            pruner=options.pruner,
        )
    limit_threads(vlm)
    if "scorer" not in vlm.signals and options.importance is None:
        _note(f"{vlm.title} has no trained scorer: importance comes from {best_source(vlm.signals)}")
    return vlm


def _answer(options: argparse.Namespace) -> None:
    check_path(options.overlay, *OVERLAYS)
    knobs = _knobs(options)
    named = [options.method] if options.plan is None else cli_methods.plan_names(options.plan) or [options.plan]
    if options.mmr_lambda is None and LAMBDA in knobs and LAMBDA not in cli_methods.own(named, knobs):
        _note(f"{' and '.join(named)} has no λ: the two weights change nothing")
        del knobs[LAMBDA]
    vlm = _model(options)
    result = answer(
        vlm,
        options.image,
        options.question,
        _asked(options, vlm, knobs),
        options.retention,
        per=options.per,
        positions=options.positions,
        max_new_tokens=options.max_new_tokens,
        overlay=options.overlay,
        style=options.style,
        attention=options.attention_shares,
        fps=options.fps,
        max_frames=options.max_frames,
    )
    for note in result["notes"]:
        _note(note)
    _print(console.as_json(result) if options.json else text(result))
    if not result["in_world"] and (other := elsewhere(vlm)):
        _note(other)


def _sweep(options: argparse.Namespace) -> None:
    from pruning.cli.sweep import sweep  # draws: `answer` need not wait for matplotlib

    check_path(options.png, *PICTURES)
    check_path(options.csv)
    knobs, vlm = _knobs(options), _model(options)
    points = sweep(
        vlm,
        options.image,
        options.question,
        _methods(options, vlm, knobs, 1),
        options.retention,
        options.at,
        options.per,
        options.positions,
        options.png,
        _progress,
        _note,
        options.fps,
        options.max_frames,
    )
    _rows(options, [asdict(point) for point in points])
    if options.png is not None:
        _note(f"written: {options.png}")


def _scenes(options: argparse.Namespace) -> None:
    check_path(options.csv)
    knobs, vlm = _knobs(options), _model(options)
    methods = _methods(options, vlm, knobs, 1)
    worlds = WORLDS.values() if options.world == "all" else [WORLDS[options.world]]
    blocks = [
        scenes(
            vlm,
            world,
            methods,
            options.retention,
            options.scenes,
            options.per_family,
            options.per,
            _progress,
            options.positions,
        )
        for world in worlds
    ]
    for note in dict.fromkeys(note for _, left_out in blocks for note in left_out):
        _note(note)
    rows = [row for block, _ in blocks for row in block]
    _rows(options, rows)


def _race(options: argparse.Namespace) -> None:
    from pruning.cli.race import race  # draws as well

    check_path(options.csv)
    if options.reproduce is not None:
        settle(options, {"methods": CURVES, "retention": RACED, "model": str(SHIPPED)})
    knobs, vlm = _knobs(options), _model(options)
    rows = race(vlm, _methods(options, vlm, knobs), options, _note, _progress)
    if not rows:
        raise ValueError(f"no question was answered: {options.out}/results.jsonl says why")
    if options.reproduce is not None:
        _print(told_row(options.reproduce, options.set, Run(Path(options.out)), rows))
    else:
        _rows(options, rows)


def _best(options: argparse.Namespace) -> None:
    from pruning.cli.best import search, told  # with the race, which draws

    check_retention(options.retention)
    knobs, vlm = _knobs(options), _model(options)
    result = search(vlm, _methods(options, vlm, knobs), options, _progress)
    _print(console.as_json(result) if options.json else told(result))


def _pays(options: argparse.Namespace) -> None:
    from pruning.cli.pays import draw, measured, told

    check_path(options.png, *PICTURES)
    knobs, vlm = _knobs(options), _model(options)
    asked = _asked(options, vlm, knobs)
    result, whole = measured(
        vlm,
        options.image,
        options.question,
        asked,
        options.retention,
        options.per,
        options.positions,
        options.concurrency,
        options.rounds,
        options.new_tokens,
        _left,
        options.fps,
        options.max_frames,
    )
    if options.png is not None:
        draw(result, options.png)
        _note(f"written: {options.png}")
    _print(console.as_json(asdict(result)) if options.json else told(result))
    if not whole:
        _note("stopped: what was measured by then is told")
        raise KeyboardInterrupt


def _why(options: argparse.Namespace) -> None:
    check_path(options.overlay, *OVERLAYS)
    knobs, vlm = _knobs(options), _model(options)
    check_runs(options.method, vlm.title, vlm.signals)
    result = why(
        vlm,
        options.image,
        options.question,
        asked_for(vlm.signals, options.method, knobs),
        options.retention,
        way=options.way,
        per=options.per,
        positions=options.positions,
        most=options.most,
        max_new_tokens=options.max_new_tokens,
        overlay=options.overlay,
        progress=_measured,
        fps=options.fps,
        max_frames=options.max_frames,
    )
    for note in result["notes"]:
        _note(note)
    _print(console.as_json(result) if options.json else told_why(result))


def _regret(options: argparse.Namespace) -> None:
    check_retention(options.retention)
    knobs, vlm = _knobs(options), _model(options)
    check_runs(options.method, vlm.title, vlm.signals)
    result = regret.measured(
        vlm,
        options.image,
        options.questions,
        asked_for(vlm.signals, options.method, knobs),
        options.retention,
        options.counts,
        per=options.per,
        positions=options.positions,
        max_new_tokens=options.max_new_tokens,
    )
    _print(console.as_json(result) if options.json else regret.told(result))


def _recipe(options: argparse.Namespace) -> None:
    check_retention(options.retention)
    knobs, vlm = _knobs(options), _model(options)
    asked = _asked(options, vlm, knobs)
    found = written(vlm, asked, options.retention, options.per, options.positions, options.only)
    _print(console.as_json([asdict(each) for each in found]) if options.json else document(found))


def _certificate(options: argparse.Namespace) -> None:
    check_retention(options.retention)
    check_path(options.out, ".json")
    knobs, vlm = _knobs(options), _model(options)
    asked = _asked(options, vlm, knobs)
    text = certificate.written(
        vlm,
        options.image,
        options.question,
        asked,
        options.retention,
        options.per,
        options.positions,
        options.fps,
        options.max_frames,
    )
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")
        _note(f"written: {options.out}")


def _verify(options: argparse.Namespace) -> int:
    was = certificate.found(options.certificate)
    files = certificate.pictures_of(options.certificate, was, options.pictures)
    hide_progress()
    vlm = certificate.model_for(was, options)
    limit_threads(vlm)
    found = verify(was, vlm, certificate.media_of(vlm, was, files), options.tolerance)
    now = made_with(vlm)
    _print(
        console.as_json(
            {"differences": [asdict(each) for each in found], "made_with": {"there": was.made_with, "here": now}}
        )
        if options.json
        else certificate.told(was, now, found)
    )
    return 0 if all(each.same for each in found) else DIFFERENT


def _asked(options: argparse.Namespace, vlm: VLM, knobs: Mapping[str, Any]) -> Asked:
    """The method or plan that one command is about. ValueError for one that the model cannot run."""
    if options.plan is not None:
        return cli_methods.build_plan(vlm, options.plan, knobs)
    if options.method in REGISTERED:
        check_runs(options.method, vlm.title, vlm.signals | vlm.encodings)
    return asked_for(vlm.signals, options.method, knobs)


def _table_of_methods(_options: argparse.Namespace) -> None:
    _print(method_table())


def _bench(options: argparse.Namespace) -> None:
    knobs = _knobs(options)
    methods = [make(name, **cli_methods.own(name, knobs)) for name in cli_methods.listed(options.methods)]
    result = bench(methods, options.tokens, options.retention, options.repeats, options.threads, options.frames)
    _print(console.as_json(result) if options.json else table(result))


def _methods(options: argparse.Namespace, vlm: VLM, knobs: Mapping[str, Any], images: int | None = None) -> list[Asked]:
    """The chosen methods and plans; a method that needs what the model lacks, or more than so many images, is left out
    with a note.
    """
    methods, left_out = cli_methods.usable(vlm, options.methods, knobs, images)
    for note in left_out:
        _note(note)
    texts = dict.fromkeys(options.plans)
    return [
        *methods,
        *(cli_methods.build_plan(vlm, text, cli_methods.own(cli_methods.plan_names(text), knobs)) for text in texts),
    ]


def _rows(options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """The table as a CSV file where one is named, as JSON where that is asked for, else as CSV on stdout."""
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            write_table(file, rows)
        _note(f"written: {options.csv}")
    if options.json:
        _print(console.as_json(rows))
    elif options.csv is None:
        write_table(sys.stdout, rows)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {total}" + ("\n" if done == total else ""))


def _measured(stage: str, done: int, left: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{stage}: {done} sets measured, {left} to come   " + ("\n" if stage == "done" else ""))


def _left(done: float, total: float, seconds: float | None) -> None:
    if sys.stderr.isatty():
        left = "" if seconds is None else f", about {seconds:.0f} s left"
        sys.stderr.write(f"\r{done / total:.0%} done{left}   " + ("\n" if done >= total else ""))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


COMMANDS = {
    "answer": _answer,
    "sweep": _sweep,
    "scenes": _scenes,
    "race": _race,
    "best": _best,
    "pays": _pays,
    "why": _why,
    "regret": _regret,
    "recipe": _recipe,
    "certificate": _certificate,
    "verify": _verify,
    "methods": _table_of_methods,
    "bench": _bench,
}
