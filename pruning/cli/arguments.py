"""The options of each command. Those of the methods come from the registry."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from pruning.cli import knobs
from pruning.cli.methods import ALL, INSIDE
from pruning.drawing.overlays import STYLES
from pruning.encoding import ENCODING
from pruning.evaluation.plane import RETENTIONS
from pruning.evaluation.why import Way
from pruning.grids import SCOPES
from pruning.handover.parity import LOGITS
from pruning.handover.recipes import WRITERS
from pruning.method import METHODS
from pruning.models import SHIPPED
from pruning.models.checkpoint.devices import ATTENTIONS, DEVICE_MAPS, QUANTIZATIONS
from pruning.models.values import POSITIONS
from pruning.params import Param, params
from pruning.race.best import HELD_OUT
from pruning.race.ledger import SETS
from pruning.race.metrics import METRICS
from pruning.scenes.worlds import SCENES, WORLDS
from pruning.staged import STAGED

STAGING = (
    "answer",
    "sweep",
    "scenes",
    "race",
    "best",
    "pays",
    "recipe",
    "certificate",
)  # commands that take methods of every registry
PLAIN = ("verify",)  # commands with options, but no methods
RACED = (0.25, 0.1)  # retentions
CURVES = ("idpruner", "vision_selector", "divprune", "random", "uniform", "pooling", "lower_resolution")
SOUGHT = ("idpruner", "naive_hybrid", "divprune", "vision_selector", "fastv", "pyramiddrop", "random", "uniform")
WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)  # λ
ELSEWHERE: Mapping[str, type] = {**STAGED, **ENCODING}


def fill(parser: argparse.ArgumentParser, command: str) -> None:
    """Give the command's parser its options. One that takes methods lists them last, and explains them on demand."""
    add = OPTIONS.get(command)
    if add is None or command in PLAIN:
        parser.add_argument("-h", "--help", action="help", help="show this help message and exit")
        if add is not None:
            add(parser)
        return
    parser.epilog = f"methods and their knobs; explained by: {parser.prog} --help METHOD\n\n{knobs.listed(METHODS)}"
    if command in STAGING:
        parser.epilog += f"\n\nmethods inside the language model\n\n{knobs.listed(STAGED)}"
        parser.epilog += f"\n\nmethods before the tower\n\n{knobs.listed(ENCODING)}"
        parser.epilog += f"\n\npublished schedules, each a plan by name\n\n{knobs.schedules()}"
    parser.add_argument("-h", "--help", action=knobs.MethodHelp)
    add(parser)


def _answer(parser: argparse.ArgumentParser) -> None:
    _add_image(parser)
    _add_clip(parser)
    _add_setting(parser)
    _add_per(parser)
    _add_positions(parser)
    _add_weights(parser)
    _add_knobs(parser, ELSEWHERE)
    parser.add_argument("--overlay", type=Path, metavar="FILE", help="write the overlay there (.png or .jpg; of a "
                        "clip a sheet of its frames, or a film, .mp4)")  # fmt: skip
    parser.add_argument("--style", default="dimmed", choices=sorted(STYLES),
                        help="of the overlay, default: %(default)s")  # fmt: skip
    parser.add_argument("--attention-shares", action="store_true",
                     help="also measure, layer by layer, what the answer attends to: MDI and AEI of text and "
                     "picture")  # fmt: skip
    parser.add_argument("--max-new-tokens", type=int, default=64, help="length of an answer, default: %(default)s")


def _sweep(parser: argparse.ArgumentParser) -> None:
    _add_image(parser)
    _add_clip(parser)
    _add_methods(parser, CURVES, ELSEWHERE)
    _add_plans(parser)
    parser.add_argument("--retention", type=float, nargs="+", default=list(RETENTIONS), help="default: %(default)s")
    _add_per(parser)
    _add_positions(parser)
    parser.add_argument("--at", type=float, default=0.25, help="retention of the drawn plane, default: %(default)s")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all points there")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw both charts there")


def _scenes(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--world", default=SCENES.name, choices=(*WORLDS, "all"),
                       help="what pictures show; all: a block of the table for each; default: %(default)s")  # fmt: skip
    _add_methods(parser, CURVES, ELSEWHERE)
    _add_plans(parser)
    parser.add_argument("--retention", type=float, nargs="+", default=[0.25, 0.1], help="default: %(default)s")
    _add_per(parser)
    _add_positions(parser)
    parser.add_argument("--scenes", type=int, default=240,
                        help="pictures of a world to ask about, default: %(default)s")  # fmt: skip
    parser.add_argument(
        "--per-family", type=int, default=1, help="questions of each family a picture, default: %(default)s"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table there")


def _race(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_data(parser)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="of the run; one that stopped goes on there")
    _add_methods(parser, CURVES, ELSEWHERE)
    _add_plans(parser)
    parser.add_argument("--retention", type=float, nargs="+", default=list(RACED), help="default: %(default)s")
    _add_per(parser)
    _add_positions(parser)
    parser.add_argument("--max-new-tokens", type=int, default=32, help="length of an answer, default: %(default)s")
    parser.add_argument("--yes", action="store_true", help="start without asking")
    parser.add_argument("--until-told-apart", action="store_true",
                        help="ask no more of a setting that can no longer win at its retention, by a bound that holds "
                        "at any time; end when one is left; the order of the data has to say nothing")  # fmt: skip
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--ray", metavar="ADDRESS",
                        help="answer on a Ray cluster, or local for one of this machine")  # fmt: skip
    parser.add_argument("--workers", type=int, metavar="N", help="on it; default: one for each GPU, or 2")
    parser.add_argument("--reproduce", metavar="ROW",
                        help="a published row, such as idpruner@0.25: its model, method and retention, and beside it "
                        "random tokens and lower resolution; then published, here and the difference")  # fmt: skip
    parser.add_argument("--set", choices=sorted(SETS), help="with --reproduce: which of the row's data sets it is")


def _best(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_data(parser)
    _add_methods(parser, SOUGHT, ELSEWHERE)
    _add_plans(parser)
    parser.add_argument("--retention", type=float, default=RACED[0],
                        help="the budget: share of tokens kept; default: %(default)s")  # fmt: skip
    parser.add_argument("--within", type=float, metavar="MS",
                        help="in its place: milliseconds to the first token, selection included; each setting keeps as "
                        "many tokens as come within them")  # fmt: skip
    parser.add_argument("--lambdas", type=float, nargs="+", default=list(WEIGHTS), metavar="L",
                        help="of methods that have λ; default: %(default)s")  # fmt: skip
    _add_per(parser)
    _add_positions(parser)
    parser.add_argument("--held-out", type=float, default=HELD_OUT, metavar="SHARE",
                        help="questions that choose nothing, and say how good the best is; "
                        "default: %(default)s")  # fmt: skip
    parser.add_argument(
        "--shuffle", type=int, default=0, metavar="SEED", help="of the order of the pictures; default: %(default)s"
    )
    parser.add_argument("--max-new-tokens", type=int, default=32, help="length of an answer, default: %(default)s")


def _pays(parser: argparse.ArgumentParser) -> None:
    _add_image(parser)
    _add_clip(parser)
    _add_setting(parser)
    _add_per(parser)
    _add_positions(parser)
    _add_weights(parser)
    _add_knobs(parser, ELSEWHERE)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16], metavar="N",
                       help="requests at once; what the memory does not hold is left out; default: 1 4 16")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="in which settings take turns, default: %(default)s")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw there where the time goes")
    parser.add_argument("--new-tokens", type=int, default=16, help="length of every answer, default: %(default)s")


def _why(parser: argparse.ArgumentParser) -> None:
    _add_image(parser)
    _add_clip(parser)
    parser.add_argument("--method", default="idpruner", choices=sorted(METHODS), metavar="METHOD",
                       help="one of those below, default: %(default)s")  # fmt: skip
    parser.add_argument("--retention", type=float, default=0.25, help="share of tokens kept; default: %(default)s")
    _add_per(parser)
    _add_positions(parser)
    _add_weights(parser)
    _add_knobs(parser)
    parser.add_argument("--way", choices=get_args(Way),
                       help="return: dropped patches that bring the full-token answer back; need: kept ones without "
                       "which the answer is lost; default: return where the answer changed, else need")  # fmt: skip
    parser.add_argument("--most", type=int, default=4096, help="sets measured, at most; default: %(default)s")
    parser.add_argument("--overlay", type=Path, metavar="FILE", help="draw there what was found (.png or .jpg; of a "
                        "clip also .mp4)")  # fmt: skip
    parser.add_argument("--max-new-tokens", type=int, default=64, help="length of an answer, default: %(default)s")


def _regret(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="an image file or a clip")
    parser.add_argument("questions", metavar="QUESTION", nargs="+", help="the conversation's, in order")
    _add_model(parser)
    parser.add_argument("--method", default="idpruner", choices=sorted(METHODS), metavar="METHOD",
                       help="one of those below, default: %(default)s")  # fmt: skip
    parser.add_argument("--retention", type=float, default=0.25, help="share of tokens kept; default: %(default)s")
    parser.add_argument("--return", dest="counts", type=int, nargs="+", default=[8, 16, 32], metavar="N",
                        help="dropped tokens that come back at a later question; default: 8 16 32")  # fmt: skip
    _add_per(parser)
    _add_positions(parser)
    _add_weights(parser)
    _add_knobs(parser)
    parser.add_argument("--max-new-tokens", type=int, default=64, help="length of an answer, default: %(default)s")


def _recipe(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_setting(parser)
    _add_per(parser)
    _add_positions(parser)
    _add_weights(parser)
    _add_knobs(parser, ELSEWHERE)
    parser.add_argument("--for", dest="only", metavar="PROGRAM", choices=[write.__name__ for write in WRITERS],
                        help="only this one: %(choices)s")  # fmt: skip


def _certificate(parser: argparse.ArgumentParser) -> None:
    _add_image(parser)
    _add_clip(parser)
    _add_setting(parser)
    _add_per(parser)
    _add_positions(parser)
    _add_weights(parser)
    _add_knobs(parser, ELSEWHERE)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the certificate there; default: standard output"
    )


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("certificate", type=Path, metavar="CERTIFICATE", help="a file that `certificate`, the page's "
                        "export or /certificate of the API wrote")  # fmt: skip
    parser.add_argument("pictures", nargs="*", metavar="PICTURE",
                        help="its pictures in order; default: those of its names beside it")  # fmt: skip
    parser.add_argument("--tolerance", type=float, default=LOGITS, metavar="NATS",
                        help="of log-probabilities; default: %(default)s")  # fmt: skip
    _add_model(parser)
    parser.set_defaults(model=None, dtype=None, attention=None)


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["methods"], help="methods: selection times on random tokens, without a model")
    parser.add_argument("--tokens", type=int, default=1296, help="visual tokens, default: %(default)s")
    parser.add_argument("--frames", type=int, default=1, help="of a clip that they belong to, default: %(default)s")
    parser.add_argument("--retention", type=float, default=0.25, help="share of tokens kept, default: %(default)s")
    parser.add_argument("--repeats", type=int, default=7, help="runs behind a median, default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    _add_methods(parser, ["all"])


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", metavar="IMAGE", help="an image file; for `answer`, `sweep`, `pays` and `why` also a clip"
    )
    parser.add_argument("question", metavar="QUESTION")
    _add_model(parser)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help=f"a world ({', '.join(WORLDS)}), a .jsonl or .parquet file, or a "
                      "folder of pictures and clips with a text file each: question, then answers")  # fmt: skip
    parser.add_argument("--metric", choices=sorted(METRICS), help="of records that name none")
    parser.add_argument("--columns", nargs="+", metavar="FIELD=COLUMN",
                        help="what the file calls a record's fields, such as answers=label or choices=A,B,C,D; all "
                        "other columns are left out")  # fmt: skip
    parser.add_argument("--suffix", default="", metavar="TEXT",
                        help="below every question, such as 'Answer with a single word.'")  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="rows at most")
    parser.add_argument("--scenes", type=int, default=240, help="pictures of a world, default: %(default)s")
    _add_clip(parser)


def _add_clip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fps", type=float, metavar="RATE",
                        help="of a clip, frames taken of each second; default: the checkpoint's, else 2")  # fmt: skip
    parser.add_argument("--max-frames", type=int, metavar="N",
                        help="of a clip, frames taken at most, spread over all of it; default: as the checkpoint says, "
                        "16 at most")  # fmt: skip


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
    parser.add_argument("--pruner", default="", metavar="FOLDER",
                        help="folder of modules trained to prune it; default: those of the checkpoint")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_per(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--per", default=SCOPES[0], choices=SCOPES,
                        help="what each budget is for: all images of the sample together, each image or clip, each "
                        "tile of models that cut images up, each frame of a clip, or frames by what is new in them; "
                        "default: %(default)s")  # fmt: skip


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


OPTIONS = {
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
    "bench": _bench,
}
