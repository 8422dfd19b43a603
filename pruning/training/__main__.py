"""Train a model of the drawn worlds, its importance scorer, and pruners:
`python -m pruning.training model|scorer|pruner|export|world`.

Stages: vision (dense labels), language (questions on cached visual tokens), joint (both, a short while). `sparse`
(language again, with few tokens) is left out unless asked for. Each resumes from its checkpoint in --folder.

`scorer --model FOLDER_OR_HUB_ID` trains an importance scorer for any supported model instead; `pruner` a module of
another trained method, for any supported model.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from pruning.cli import console
from pruning.models import VLM, hide_progress, limit_threads, load
from pruning.models.checkpoint.devices import DTYPES, QUANTIZATIONS
from pruning.training import (
    atp_llava,
    dtop,
    export,
    fit,
    joint,
    language,
    packed,
    pruners,
    qtsplus,
    scorer,
    vision,
    world,
)
from pruning.training.data import SHARES
from pruning.training.objective import KEPT
from pruning.training.records import FileRecords, Records, SceneRecords, held_out

log = logging.getLogger(__name__)

STEPS = {"vision": 6000, "language": 6000, "joint": 400, "sparse": 300, "scorer": 400}
"""Steps of each stage."""
FOLDER = Path("runs/worlds-vlm")
SCENES = "scenes"
EVERY = 25  # steps between checkpoints of a pruner
TRAINEES: Mapping[str, Callable[[VLM, pruners.PrunerPlan], fit.Trainee]] = {
    "covipal": pruners.CoViPALTrainee,
    "dtop": dtop.DToPTrainee,
    "atp_llava": atp_llava.ATPLLaVATrainee,
    "qtsplus": qtsplus.QTSplusTrainee,
}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pruning.training", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("model", "vision, language and joint stage in turn"), ("vision", "only the vision stage"),
                       ("language", "only the language stage"), ("joint", "only the joint stage"),
                       ("sparse", "pruned prompts, after the others; optional"),
                       ("scorer", "the importance scorer, on the trained model or on any other")):  # fmt: skip
        command = commands.add_parser(name, help=text, allow_abbrev=False)
        command.add_argument("--folder", type=Path, default=FOLDER, help="checkpoints (%(default)s)")
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
        command.add_argument("--steps", type=int, help="steps of the stage, where only one is run")
        _add_worlds(command, "worlds to train on")
        if name == "scorer":
            _add_any_model(command)
    for name, text, where in (("pack", "write the run in a few megabytes, to go on from it elsewhere", "--out"),
                              ("unpack", "go on from a packed run: write its checkpoints", "--packed")):  # fmt: skip
        command = commands.add_parser(name, help=text, allow_abbrev=False)
        command.add_argument("--folder", type=Path, default=FOLDER, help="checkpoints (%(default)s)")
        command.add_argument(where, type=Path, required=True, help="folder of the packed run")
    module = commands.add_parser("pruner", help="a module that prunes, on any model, which stays as it is",
                                 allow_abbrev=False)  # fmt: skip
    module.add_argument("--method", default=pruners.METHODS[0], choices=pruners.METHODS, help="(%(default)s)")
    module.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
    module.add_argument("--steps", type=int, help="one epoch, or 400 for scenes")
    module.add_argument("--guided", type=float,
                        help="covipal: share of the steps that learn from attention (default: 0.4)")  # fmt: skip
    module.add_argument(
        "--layer", type=int, help="covipal: of the language model that is learned from (default: 16 / 28 of all)"
    )
    _add_any_model(module)
    module.set_defaults(held_out=64, model=SCENES, rate=1e-3)
    ready = commands.add_parser("export", help="write the trained model and scorer as a checkpoint folder")
    ready.add_argument("--folder", type=Path, default=FOLDER, help="checkpoints (%(default)s)")
    ready.add_argument("--out", type=Path, required=True, help="folder to write")
    own = commands.add_parser("world", help="write beside a checkpoint what it knows of its own world; so does export")
    own.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    own.add_argument("--pictures", type=int, default=world.PICTURES, help="of each world (%(default)s)")
    for command in (ready, own):
        _add_worlds(command, "worlds that it was trained on")
    return parser


def _add_worlds(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--worlds", nargs="+", choices=tuple(SHARES), default=tuple(SHARES), metavar="WORLD",
                        help=f"{what}, default: all of %(choices)s")  # fmt: skip


def _add_any_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("any other model", "VisionSelector's recipe; the model itself stays as it is")
    group.add_argument("--model", help="folder or hub id; without it the scorer of the shipped model is trained")
    group.add_argument("--data", default=SCENES, metavar="FILE",
                       help='JSON Lines of {"image", "question", "answer"}, or scenes (%(default)s)')  # fmt: skip
    group.add_argument("--images", type=Path, metavar="DIR", help="where image paths start (default: FILE's folder)")
    group.add_argument("--out", type=Path, help="folder for scorer and checkpoints (default: runs/scorer-MODEL)")
    group.add_argument("--resume", action="store_true", help="go on with the run in --out")
    group.add_argument("--batch", type=int, default=16, help="records a step (%(default)s); --steps: one epoch, "
                                                             "or 400 for scenes")  # fmt: skip
    group.add_argument("--budget", type=float, default=KEPT, help="share of tokens the soft mask keeps (%(default)s)")
    group.add_argument("--rate", type=float, default=5e-5,
                       help="learning rate (%(default)s; models of a few million parameters want 1e-3)")  # fmt: skip
    group.add_argument("--max-visual-tokens", type=int, default=64,
                       help="larger pictures are scaled down, where the model can (%(default)s)")  # fmt: skip
    group.add_argument("--dtype", default="auto", choices=("auto", *DTYPES), help="(%(default)s)")
    group.add_argument("--quantization", default="none", choices=QUANTIZATIONS, help="(%(default)s)")
    group.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    group.add_argument("--held-out", type=int, default=0, metavar="N",
                       help="scenes' questions asked at every checkpoint; none with --data (%(default)s)")  # fmt: skip
    group.add_argument("--held-out-at", type=_share, nargs="+", default=[], metavar="SHARE",
                       help="shares of the tokens at which they are asked too, beside --budget")  # fmt: skip


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share of the tokens: a number above 0 up to 1, such as 0.1")
    return value


@console.command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        _run(args)
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the last checkpoint stays\n")
        return 130
    return 0


def _run(args: argparse.Namespace) -> None:
    if args.command == "export":
        export.export(args.folder, args.out)
        args.model, args.pictures = args.out, world.PICTURES
    if args.command in ("export", "world"):
        world.build(args.model, tuple(dict.fromkeys(args.worlds)), args.pictures).save(args.model)
        return
    if args.command in ("pack", "unpack"):
        steps = (
            packed.pack(args.folder, args.out) if args.command == "pack" else packed.unpack(args.packed, args.folder)
        )
        log.info("steps done: %s", ", ".join(f"{stage} {done}" for stage, done in steps.items()))
        return
    if args.command == "pruner" or (args.command == "scorer" and args.model):
        _any_model(args)
        return
    stages = {"vision": vision.train, "language": language.train, "joint": joint.train, "sparse": language.sparse,
              "scorer": scorer.train}  # fmt: skip
    names = ("vision", "language", "joint") if args.command == "model" else (args.command,)
    for name in names:
        count = STEPS[name] if args.steps is None or args.command == "model" else args.steps
        stages[name](args.folder, count, torch.device(args.device), worlds=tuple(dict.fromkeys(args.worlds)))


def _any_model(args: argparse.Namespace) -> None:
    scenes = args.data == SCENES
    records: Records = SceneRecords(args.seed) if scenes else FileRecords(Path(args.data), args.images, args.seed)
    steps = args.steps if args.steps is not None else -(-records.size // max(1, args.batch)) if records.size else 400
    common = (args.model, records.title, steps, args.batch, args.budget, args.rate, args.max_visual_tokens, args.seed,
              records.digest)  # fmt: skip
    if args.held_out_at and not (scenes and args.held_out):
        raise ValueError("--held-out-at needs held-out questions: give --held-out, with drawn scenes, or leave it out")
    module = args.command == "pruner"
    plan = fit.Plan(*common)
    pruner = None
    if module:
        _check_own(args)
        guided = pruners.PrunerPlan.guided if args.guided is None else args.guided
        pruner = pruners.PrunerPlan(*common, args.method, guided, args.layer)
    hide_progress()
    vlm = load(
        args.model,
        device=args.device,
        dtype=args.dtype,
        quantization=args.quantization,
        attention="eager" if module else "auto",  # alone it tells its weights, from which a pruner learns
        max_visual_tokens=args.max_visual_tokens,
    )
    limit_threads(vlm)
    name = args.method if module else "scorer"
    out = args.out or Path("runs") / f"{name}-{vlm.title}"
    asked = [held_out(args.seed).at(i) for i in range(args.held_out if scenes else 0)]
    trainee = TRAINEES[args.method](vlm, pruner) if pruner else fit.ScorerTrainee(plan)
    every = EVERY if pruner else 100
    fit.train(vlm, records, pruner or plan, out, trainee, resume=args.resume, every=every, held_out=asked,
              budgets=args.held_out_at)  # fmt: skip
    option = "--pruner" if module else "--scorer"
    log.info("written: %s. Use it with %s %s", out / f"{name}.safetensors", option, out)


def _check_own(args: argparse.Namespace) -> None:
    """Raise ValueError for an option that the module to be trained has no use for."""
    given = [name for name in ("guided", "layer") if getattr(args, name) is not None]
    if given and args.method != "covipal":
        raise ValueError(f"--{given[0]} belongs to covipal, and {args.method} learns from no attention: leave it out")


if __name__ == "__main__":
    sys.exit(main())
