"""The commands and their parsers. The options of a command need the registry of methods, and so PyTorch: it gets them
where it is called, and `--help` alone waits for nothing.
"""

import argparse
from collections.abc import Sequence

from pruning.assets import version
from pruning.cli import console

ASKED = "[OPTIONS] [KNOBS] IMAGE QUESTION"
COMMANDS = {  # -> what follows it, what it does
    "answer": (ASKED, "answer a question on all and on the kept tokens; draw what is kept"),
    "sweep": (ASKED, "measure the trade-off curves of one image and question"),
    "scenes": ("[OPTIONS] [KNOBS]", "accuracy on held-out pictures, per world and question family"),
    "race": (
        "[OPTIONS] [KNOBS] --data DATA --out FOLDER",
        "methods, budgets and a data set side by side, resumable, with statistics",
    ),
    "best": ("[OPTIONS] [KNOBS] --data DATA", "the setting that keeps the most at a budget, by successive halving"),
    "pays": (ASKED, "whether a setting pays here: times against all tokens and lower resolution"),
    "why": (ASKED, "which patches would bring the answer back, or cannot be done without"),
    "regret": (
        "[OPTIONS] [KNOBS] IMAGE QUESTION QUESTION ...",
        "what later questions of a conversation lose by tokens chosen for the first one",
    ),
    "recipe": ("[OPTIONS] [KNOBS]", "a setting written for other programs, ready to paste"),
    "certificate": (ASKED, "what a picture, question and setting come to, as a file that other machines verify"),
    "verify": ("[OPTIONS] CERTIFICATE [PICTURE ...]", "whether a certificate's sample comes to the same here"),
    "methods": ("[-h]", "the table of the methods, in Markdown"),
    "bench": ("[OPTIONS] [KNOBS] methods", "how long each method takes to select"),
}


def build_parser(called: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The whole command line, with the options of the commands that are called.

    called: the words of a command line; commands that are not among them have no options.
    """
    parser = argparse.ArgumentParser(
        console.program("idpruner", "python -m pruning"),
        description="Visual token pruning without a browser.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"IDPruner Lab {version()}")
    kinds = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name, (given, about) in COMMANDS.items():
        command = kinds.add_parser(
            name,
            allow_abbrev=False,
            add_help=False,
            help=about,
            usage=f"%(prog)s {given}",
            description=f"{about[0].upper()}{about[1:]}.",
            formatter_class=MethodsLast,
        )
        if name in called:
            from pruning.cli.arguments import fill

            fill(command, name)
    return parser


class MethodsLast(argparse.HelpFormatter):
    """Folds all text but what stands last, the list of the methods."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)
