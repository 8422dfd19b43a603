"""The methods in `--help`: a line for each, and on demand all of a method with its knobs, each where it belongs.

One parser takes the knobs of all methods, and several methods share a name for theirs: told in one list, a reader could
not see what belongs to the method at hand.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pruning.encoding import ENCODING, EncodingMethod
from pruning.method import METHODS, Method
from pruning.params import Param, params
from pruning.published import PUBLISHED
from pruning.staged import STAGED, StagedMethod

EVERY = "all"


class MethodHelp(argparse.Action):
    """`--help`: the command; `--help METHOD ...`: these methods and their knobs."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(
            option_strings,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            nargs="*",
            metavar="METHOD",
            choices=[*sorted(METHODS), *sorted(STAGED), *sorted(ENCODING), EVERY],
            help=f"show this, or the knobs of the methods that are named ({EVERY}: of every one), and exit",
        )

    def __call__(self, parser: argparse.ArgumentParser, _namespace: object, names: Any, _option: object = None) -> None:
        wanted = [*sorted(METHODS), *sorted(STAGED), *sorted(ENCODING)] if EVERY in names else names
        sys.stdout.write(explained(wanted) if wanted else parser.format_help())
        parser.exit()


def option(param: Param) -> str:
    """The option of a knob."""
    return f"--{param.name.replace('_', '-')}"


def listed(methods: Mapping[str, Any]) -> str:
    """A line for each of a registry's methods: its name, title and knobs."""
    width = max(map(len, METHODS))
    return "\n".join(
        f"  {name:{width}}  {method.title}{''.join(f' {option(param)}' for param in params(method))}"
        for name, method in sorted(methods.items())
    )


def schedules() -> str:
    """A line for each published schedule: its name, the setting that it was published for, where that is written."""
    width = max(map(len, PUBLISHED))
    return "\n".join(f"  {name:{width}}  {each.about}: {each.source}" for name, each in sorted(PUBLISHED.items()))


def explained(names: Sequence[str]) -> str:
    """These methods, each once: what they are, and their knobs with range and default."""
    known: dict[str, Any] = {**METHODS, **STAGED, **ENCODING}
    return "\n".join(_section(known[name]) for name in dict.fromkeys(names))


def _section(method: type[Method | StagedMethod | EncodingMethod]) -> str:
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
    about = f"{method.venue}, {method.paper}" if method.paper else "a baseline"
    without = "" if params(method) else ". It has no knobs."
    group = parser.add_argument_group(f"{method.title} ({method.name})", about + without)
    for param in params(method):
        group.add_argument(
            option(param),
            choices=param.choices or None,
            metavar=None if param.choices else "VALUE",
            help=_about(param).replace("%", "%%"),
        )
    return parser.format_help()


def _about(param: Param) -> str:
    what = f"{param.label}: {param.help}" if param.help else param.label
    limits = "" if param.choices else f"{param.lo:g} to {param.hi:g}, "
    return f"{what}; {limits}default: {param.default}"
