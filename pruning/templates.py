"""HTML, written by the macros of assets/templates/: every value is text, unless a macro wrote it."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from pruning import assets

BREAK = re.compile(r"(?<=[>}])\s*\n\s*(?=[<{])")  # between two tags of a template, where it lays out the source alone


def render(name: str, /, **values: object) -> Markup:
    """What a macro writes: "race.report" is `report` of assets/templates/race.html. values: its arguments by name.

    Raises TypeError for a value that the macro does not take, jinja2.UndefinedError where it uses one that is not
    given, AssetError where the file is missing.
    """
    file, _, macro = name.partition(".")
    return Markup(getattr(_environment().get_template(file).module, macro)(**values))


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # what is installed does not change under a running page
        loader=FunctionLoader(_source),
    )


def _source(file: str) -> str:
    return BREAK.sub("", assets.text(f"templates/{file}.html"))
