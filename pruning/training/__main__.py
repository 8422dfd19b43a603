"""Train the shipped model and its importance scorer: `python -m pruning.training model|scorer|export`.

Stages: vision (dense labels), language (questions on cached visual tokens), sparse
(the same with few tokens). Each resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from pruning.training import export, language, scorer, vision

STEPS = {"vision": 1300, "language": 3400, "sparse": 900, "scorer": 400}
"""Steps of each stage of the shipped model."""


def main() -> None:
    """Parse the command line and run the stages it names."""
    parser = argparse.ArgumentParser(prog="python -m pruning.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("model", "vision, language and sparse stage in turn"), ("vision", "only the vision stage"),
                       ("language", "only the language stage"), ("sparse", "only the sparse stage"),
                       ("scorer", "the importance scorer, on the trained model")):  # fmt: skip
        command = commands.add_parser(name, help=text)
        command.add_argument("--folder", type=Path, default=Path("runs/scenes-vlm"), help="checkpoints (%(default)s)")
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
        command.add_argument("--steps", type=int, help="steps of the stage, where only one is run")
    ready = commands.add_parser("export", help="write the trained model and scorer as a checkpoint folder")
    ready.add_argument("--folder", type=Path, default=Path("runs/scenes-vlm"), help="checkpoints (%(default)s)")
    ready.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if args.command == "export":
        export.export(args.folder, args.out)
        return
    stages = {"vision": vision.train, "language": language.train, "sparse": language.sparse, "scorer": scorer.train}
    names = ("vision", "language", "sparse") if args.command == "model" else (args.command,)
    for name in names:
        steps = STEPS[name] if args.steps is None or args.command == "model" else args.steps
        stages[name](args.folder, steps, torch.device(args.device))


if __name__ == "__main__":
    main()
