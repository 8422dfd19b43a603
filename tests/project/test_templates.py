"""The page's templates: markup stands there alone, and what calls a macro names its arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

from tests.helpers.checkout import ROOT

FILES = sorted((ROOT / "assets" / "templates").iterdir())
WRITES = re.compile(r"^from (?:app\.web|pruning)\.templates import render$", re.MULTILINE)
WRITERS = [
    path for top in ("app", "pruning") for path in (ROOT / top).rglob("*.py") if WRITES.search(path.read_text("utf-8"))
]
SOURCES = sorted({*(ROOT / "app").rglob("*.py"), *WRITERS})
TAG = re.compile(r"</?(?!(?:script|link)\b)[a-z][a-z0-9]*[\s/>]")  # scripts are loaded from Python


def parsed(path: Path) -> nodes.Template:
    return Environment().parse(path.read_text("utf-8"))


def macros() -> dict[str, tuple[set[str], set[str]]]:
    """ "compare.head" -> the arguments that it takes, and those of them that it cannot do without."""
    found = {}
    for path in FILES:
        for macro in parsed(path).find_all(nodes.Macro):
            names = [argument.name for argument in macro.args if argument.name != "caller"]
            optional = len(macro.defaults) - (len(macro.args) - len(names))
            found[f"{path.stem}.{macro.name}"] = (set(names), set(names[: len(names) - optional]))
    return found


def rendered(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Each macro that a module calls, and the arguments that it names."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "render":
            (name,) = node.args
            assert isinstance(name, ast.Constant), f"{path}: a macro is called by a name that stands there"
            yield name.value, {keyword.arg or "**" for keyword in node.keywords}


def imported(path: Path) -> set[str]:
    """The macros that a template calls of its own and of those that it imports."""
    found = set()
    for call in parsed(path).find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr) and isinstance(call.node.node, nodes.Name):
            found.add(f"{call.node.node.name}.{call.node.attr}")
        elif isinstance(call.node, nodes.Name):
            found.add(f"{path.stem}.{call.node.name}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_markup_stands_in_templates_alone(path):
    tree = ast.parse(path.read_text("utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    told = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert [text for text in texts - told if TAG.search(text)] == []


def test_what_calls_a_macro_names_its_arguments():
    known = macros()
    calls = [(path, *call) for path in WRITERS for call in rendered(path)]
    assert len(calls) > 20
    for path, name, given in calls:
        takes, needs = known[name]
        assert needs <= given <= takes, f"{path}: {name} takes {sorted(takes)}, needs {sorted(needs)}"


def test_every_macro_has_a_caller():
    called = {name for path in WRITERS for name, _ in rendered(path)}
    assert set(macros()) == called | {name for path in FILES for name in imported(path) if name in macros()}


def test_only_a_drawing_of_the_library_is_taken_as_markup():
    written = "".join(path.read_text("utf-8") for path in FILES)
    assert re.findall(r"\w+\s*\|\s*safe\b", written) == ["svg|safe"]
    assert "autoescape" not in written
