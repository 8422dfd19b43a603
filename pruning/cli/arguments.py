"""The command line's options. Those of the methods come from the registry."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pruning.assets import version
from pruning.cli import console, knobs
from pruning.cli.methods import ALL, INSIDE
from pruning.drawing.overlays import STYLES
from pruning.encoding import ENCODING
from pruning.evaluation.plane import RETENTIONS
from pruning.evaluation.why import Way
from pruning.grids import SCOPES
from pruning.handover.recipes import WRITERS
from pruning.method import METHODS
from pruning.models import SHIPPED
from pruning.models.checkpoint.devices import ATTENTIONS, DEVICE_MAPS, QUANTIZATIONS
from pruning.models.values import POSITIONS
from pruning.params import Param, params
from pruning.race.metrics import METRICS
from pruning.scenes.worlds import SCENES, WORLDS
from pruning.staged import STAGED

STAGING = ("answer", "sweep", "scenes", "race", "pays", "recipe")  # commands that take methods of every registry
CURVES = ("idpruner", "vision_selector", "divprune", "random", "uniform", "pooling", "lower_resolution")
ELSEWHERE: Mapping[str, type] = {**STAGED, **ENCODING}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; the knobs of the methods come from the registry."""
    parser = argparse.ArgumentParser(
        console.program("idpruner", "python -m pruning"),
        description="Visual token pruning without a browser.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"IDPruner Lab {version()}")
    kinds = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    one = _command(kinds, "answer", "IMAGE QUESTION",
                   "answer a question on all and on the kept tokens; draw what is kept")  # fmt: skip
    _add_image(one)
    _add_setting(one)
    _add_per(one)
    _add_positions(one)
    _add_weights(one)
    _add_knobs(one, ELSEWHERE)
    one.add_argument("--overlay", type=Path, metavar="FILE", help="write the overlay there (.png or .jpg)")
    one.add_argument("--style", default="dimmed", choices=sorted(STYLES), help="of the overlay, default: %(default)s")
    one.add_argument("--attention-shares", action="store_true",
                     help="also measure, layer by layer, what the answer attends to: MDI and AEI of text and "
                     "picture")  # fmt: skip
    one.add_argument("--max-new-tokens", type=int, default=64, help="length of an answer, default: %(default)s")

    many = _command(kinds, "sweep", "IMAGE QUESTION", "measure the trade-off curves of one image and question")
    _add_image(many)
    _add_methods(many, CURVES, ELSEWHERE)
    _add_plans(many)
    many.add_argument("--retention", type=float, nargs="+", default=list(RETENTIONS), help="default: %(default)s")
    _add_per(many)
    many.add_argument("--at", type=float, default=0.25, help="retention of the drawn plane, default: %(default)s")
    many.add_argument("--csv", type=Path, metavar="FILE", help="write all points there")
    many.add_argument("--png", type=Path, metavar="FILE", help="draw both charts there")

    bench = _command(kinds, "scenes", "", "accuracy on held-out pictures, per world and question family")
    _add_model(bench)
    bench.add_argument("--world", default=SCENES.name, choices=(*WORLDS, "all"),
                       help="what pictures show; all: a block of the table for each; default: %(default)s")  # fmt: skip
    _add_methods(bench, CURVES, ELSEWHERE)
    _add_plans(bench)
    bench.add_argument("--retention", type=float, nargs="+", default=[0.25, 0.1], help="default: %(default)s")
    _add_per(bench)
    _add_positions(bench)
    bench.add_argument("--scenes", type=int, default=240, help="pictures of a world to ask about, default: %(default)s")
    bench.add_argument(
        "--per-family", type=int, default=1, help="questions of each family a picture, default: %(default)s"
    )
    bench.add_argument("--csv", type=Path, metavar="FILE", help="write the table there")

    long = _command(kinds, "race", "--data DATA --out FOLDER",
                    "methods, budgets and a data set side by side, resumable, with statistics")  # fmt: skip
    _add_model(long)
    long.add_argument("--data", required=True, help=f"a world ({', '.join(WORLDS)}), a .jsonl or .parquet file, or a "
                      "folder of pictures with a text file each: question, then answers")  # fmt: skip
    long.add_argument("--out", required=True, metavar="FOLDER", help="of the run; one that stopped goes on there")
    _add_methods(long, CURVES, ELSEWHERE)
    _add_plans(long)
    long.add_argument("--retention", type=float, nargs="+", default=[0.25, 0.1], help="default: %(default)s")
    _add_per(long)
    _add_positions(long)
    long.add_argument("--metric", choices=sorted(METRICS), help="of records that name none")
    long.add_argument("--limit", type=int, metavar="N", help="rows at most")
    long.add_argument("--scenes", type=int, default=240, help="pictures of a world, default: %(default)s")
    long.add_argument("--max-new-tokens", type=int, default=32, help="length of an answer, default: %(default)s")
    long.add_argument("--yes", action="store_true", help="start without asking")
    long.add_argument("--csv", type=Path, metavar="FILE", help="write the table there")

    worth = _command(kinds, "pays", "IMAGE QUESTION",
                     "whether a setting pays here: times against all tokens and lower resolution")  # fmt: skip
    _add_image(worth)
    _add_setting(worth)
    _add_per(worth)
    _add_weights(worth)
    _add_knobs(worth, ELSEWHERE)
    worth.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16], metavar="N",
                       help="requests at once; what the memory does not hold is left out; default: 1 4 16")  # fmt: skip
    worth.add_argument("--rounds", type=int, default=5, help="in which settings take turns, default: %(default)s")
    worth.add_argument("--png", type=Path, metavar="FILE", help="draw there where the time goes")
    worth.add_argument("--new-tokens", type=int, default=16, help="length of every answer, default: %(default)s")

    cause = _command(kinds, "why", "IMAGE QUESTION",
                     "which patches would bring the answer back, or cannot be done without")  # fmt: skip
    _add_image(cause)
    cause.add_argument("--method", default="idpruner", choices=sorted(METHODS), metavar="METHOD",
                       help="one of those below, default: %(default)s")  # fmt: skip
    cause.add_argument("--retention", type=float, default=0.25, help="share of tokens kept; default: %(default)s")
    _add_per(cause)
    _add_weights(cause)
    _add_knobs(cause)
    cause.add_argument("--way", choices=get_args(Way),
                       help="return: dropped patches that bring the full-token answer back; need: kept ones without "
                       "which the answer is lost; default: return where the answer changed, else need")  # fmt: skip
    cause.add_argument("--most", type=int, default=4096, help="sets measured, at most; default: %(default)s")
    cause.add_argument("--overlay", type=Path, metavar="FILE", help="draw there what was found (.png or .jpg)")
    cause.add_argument("--max-new-tokens", type=int, default=64, help="length of an answer, default: %(default)s")

    code = _command(kinds, "recipe", "", "a setting written for other programs, ready to paste")
    _add_model(code)
    _add_setting(code)
    _add_per(code)
    _add_positions(code)
    _add_weights(code)
    _add_knobs(code, ELSEWHERE)
    code.add_argument("--for", dest="only", metavar="PROGRAM", choices=[write.__name__ for write in WRITERS],
                      help="only this one: %(choices)s")  # fmt: skip

    kinds.add_parser("methods", allow_abbrev=False, help="the table of the methods, in Markdown")

    speed = _command(kinds, "bench", "methods", "how long each method takes to select")
    speed.add_argument("what", choices=["methods"], help="methods: selection times on random tokens, without a model")
    speed.add_argument("--tokens", type=int, default=1296, help="visual tokens, default: %(default)s")
    speed.add_argument("--retention", type=float, default=0.25, help="share of tokens kept, default: %(default)s")
    speed.add_argument("--repeats", type=int, default=7, help="runs behind a median, default: %(default)s")
    speed.add_argument("--threads", type=int, default=1, help="of PyTorch, default: %(default)s")
    speed.add_argument("--json", action="store_true", help="print the result as JSON")
    _add_methods(speed, ["all"])
    return parser


def _command(kinds: Any, name: str, given: str, about: str) -> argparse.ArgumentParser:
    """The parser of a command that takes methods; `given`: what follows its options."""
    parser: argparse.ArgumentParser = kinds.add_parser(
        name,
        allow_abbrev=False,
        add_help=False,
        help=about,
        usage=f"%(prog)s [OPTIONS] [KNOBS] {given}".rstrip(),
        description=f"{about[0].upper()}{about[1:]}.",
        formatter_class=MethodsLast,
    )
    parser.epilog = f"methods and their knobs; explained by: {parser.prog} --help METHOD\n\n{knobs.listed(METHODS)}"
    if name in STAGING:
        parser.epilog += f"\n\nmethods inside the language model\n\n{knobs.listed(STAGED)}"
        parser.epilog += f"\n\nmethods before the tower\n\n{knobs.listed(ENCODING)}"
        parser.epilog += f"\n\npublished schedules, each a plan by name\n\n{knobs.schedules()}"
    parser.add_argument("-h", "--help", action=knobs.MethodHelp)
    return parser


class MethodsLast(argparse.HelpFormatter):
    """Folds all text but what stands last, the list of the methods."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="an image file")
    parser.add_argument("question", metavar="QUESTION")
    _add_model(parser)


def _add_setting(one: argparse.ArgumentParser) -> None:
    """A method or plan, and how many tokens stay."""
    what = one.add_mutually_exclusive_group()
    what.add_argument("--method", default="idpruner", choices=sorted([*METHODS, *ELSEWHERE]), metavar="METHOD",
                      help="one of those below, default: %(default)s")  # fmt: skip
    what.add_argument("--plan", metavar="PLAN",
                      help="what leaves where, such as pre:idpruner:0.4,3:fastv:0.5: IDPruner keeps 40 %% before the "
                      "language model, FastV's rule half of these after three layers; a whole number: "
                      "so many tokens; or the name of a published schedule, see below")  # fmt: skip
    one.add_argument("--retention", type=float, default=0.25,
                     help="share of tokens kept; inside the language model, the mean over its layers; "
                     "default: %(default)s")  # fmt: skip


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=str(SHIPPED), help="folder, hub id, or scenes, the shipped model; default: the shipped model"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda, cuda:N; default: %(default)s")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16; default: %(default)s")
    parser.add_argument("--quantization", default="none", choices=QUANTIZATIONS,
                        help="of the weights, through bitsandbytes on cuda; default: %(default)s")  # fmt: skip
    parser.add_argument("--attention", default="auto", choices=ATTENTIONS,
                        help="kernel; auto is the model library's choice; default: %(default)s")  # fmt: skip
    parser.add_argument("--device-map", default="", choices=DEVICE_MAPS[1:],
                        help="spread the model over all GPUs and the CPU; default: one device")  # fmt: skip
    parser.add_argument("--scorer", default="", metavar="FOLDER",
                        help="folder or hub id of scorer weights; default: those of the checkpoint")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_per(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--per", default=SCOPES[0], choices=SCOPES,
                        help="what each budget is for: all images of the sample together, each image, or each tile "
                        "of models that cut images up; default: %(default)s")  # fmt: skip


def _add_positions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--positions", default=POSITIONS[0], choices=POSITIONS,
                        help="of kept tokens: where they stood among all, or renumbered without gaps, as serving "
                        "engines do; default: %(default)s")  # fmt: skip


def _add_plans(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plans", nargs="+", default=[], metavar="PLAN",
                        help="plans beside the methods, as of `answer --plan`, and published schedules by their names; "
                        "each comes to a retention of its own")  # fmt: skip


def _add_methods(
    parser: argparse.ArgumentParser, default: Sequence[str], others: Mapping[str, type] = MappingProxyType({})
) -> None:
    names = [*sorted([*METHODS, *others]), ALL, *([INSIDE] if others else [])]
    inside = f"; {INSIDE}: every one inside the language model" if others else ""
    about = f"{ALL}, or some of those below{inside}; default: {' '.join(default)}"
    parser.add_argument("--methods", nargs="+", default=list(default), metavar="METHOD", choices=names, help=about)
    _add_weights(parser)
    _add_knobs(parser, others)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("weights", "λ = importance / (importance + diversity), 1 and 1 unless given")
    group.add_argument("--importance-weight", type=float, metavar="W")
    group.add_argument("--diversity-weight", type=float, metavar="W")


def _add_knobs(parser: argparse.ArgumentParser, others: Mapping[str, type] = MappingProxyType({})) -> None:
    """One option per knob name of any method; a choice allows what any method with this knob allows.

    others: methods beside those of the registry.

    `--help` tells of them by method (`commands.knobs`).
    """
    uses: dict[str, list[Param]] = {}
    for method in (*METHODS.values(), *others.values()):
        for param in params(method):
            uses.setdefault(param.name, []).append(param)
    for same in uses.values():
        kinds = {param.kind for param in same}
        kind = str if "choice" in kinds else int if kinds == {"int"} else float
        choices = sorted({choice for param in same for choice in param.choices}) or None
        parser.add_argument(knobs.option(same[0]), type=kind, choices=choices, help=argparse.SUPPRESS)
    parser.set_defaults(knobs=tuple(uses))
