"""Who may import whom, read from the source: no module is run for it."""

from __future__ import annotations

import ast

import pytest

from tests.helpers.checkout import ROOT

SOURCES = sorted(path.relative_to(ROOT) for top in ("app", "pruning") for path in (ROOT / top).rglob("*.py"))
SOURCES += [path.relative_to(ROOT) for path in ROOT.glob("*.py")]
GRADIO = ("app/explore/", "app/web/", "app/ui.py")  # and every room's page.py

# Who is above whom. A room imports what stands in lines before its own, never its neighbours: a feature that needs
# another one's work stands above it.
FLOORS = {
    "app": (
        "session examples pace",
        "engine",
        "web",
        "settings",
        "answers canvas model_pool",
        "plan tradeoff",
        "compare batch smallest_budget pays race recipe training why explore",
        "api presenter share",
        "export",
        "ui",
        "main",
    ),
    "pruning": (
        "assets budget debris params rgb seen starting text weights grids",
        "schedules templates",
        "images ops",
        "signals video",
        "tokens",
        "method overrides drawing joining",
        "encoding staged moving spreading",
        "plan",
        "allocation bibliography importance models published",
        "choosing",
        "evaluation methods runnable scenes",
        "handover race",
        "cli",
        "training",
        "__init__ __main__",
    ),
}
HEIGHTS = {top: {room: at for at, line in enumerate(lines) for room in line.split()} for top, lines in FLOORS.items()}
LAZY = {("method", "methods")}  # the registry is filled by the methods when it is first read


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from pruning import models` names the module in its second half.
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
            assert not node.level, "relative imports hide who imports whom"
    return found


def at_import_time(tree: ast.AST) -> ast.Module:
    """The tree without the bodies of functions and of `if TYPE_CHECKING`."""

    class Outer(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if ast.unparse(node.test).endswith("TYPE_CHECKING") else self.generic_visit(node)

    outer = Outer().visit(tree)
    assert isinstance(outer, ast.Module)
    return outer


def reaches(names: set[str], package: str) -> bool:
    return any(name == package or name.startswith(package + ".") for name in names)


def room(dotted: str) -> tuple[str, str] | None:
    """("app", "compare") of "app.compare.page"; a package's own names are its front door, `__init__`."""
    top, _, rest = dotted.partition(".")
    if top not in HEIGHTS:
        return None
    first = rest.partition(".")[0]
    return top, first if first in HEIGHTS[top] else "__init__"


def upward(where: str, names: set[str]) -> list[str]:
    here = room(where.removesuffix(".py").replace("/", ".")) if "/" in where else None
    if here is None:  # `app.py` may import what it starts
        return []
    top, mine = here
    others = {found[1] for name in names if (found := room(name)) and found[0] == top} - {mine, "__init__"}
    return [
        f"{mine} imports {other}, which is not below it"
        for other in sorted(others)
        if HEIGHTS[top][other] >= HEIGHTS[top][mine] and (mine, other) not in LAZY
    ]


def breaches(where: str, source: str) -> list[str]:
    names = imports(ast.parse(source))
    early = imports(at_import_time(ast.parse(source)))
    found = []
    if reaches(names, "gradio") and not where.startswith(GRADIO) and not where.endswith("/page.py"):
        found.append("gradio outside the page")
    if reaches(names, "transformers") and not where.startswith(("pruning/models/", "pruning/training/")):
        found.append("transformers outside models and training")
    if reaches(early, "transformers"):
        found.append("transformers imported before it is needed")
    if reaches(names, "jinja2") and where != "pruning/templates.py":
        found.append("HTML written elsewhere than in pruning/templates.py")
    if reaches(names, "app") and where.startswith("pruning/"):
        found.append("the library imports the page")
    if reaches(names, "pruning.models") and where.startswith("pruning/methods/"):
        found.append("methods import models")
    if reaches(names, "pruning.models") and where in ("pruning/evaluation/plane.py", "pruning/evaluation/fidelity.py"):
        found.append("the sweeps import models")
    found += upward(where, names)
    if reaches(names, "matplotlib.pyplot"):
        found.append("pyplot keeps global state")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_follow_the_layers(path):
    assert breaches(path.as_posix(), (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("app/engine/engine.py", "import gradio as gr"),
        ("pruning/drawing/overlays.py", "def f():\n    from gradio import Image"),
        ("pruning/evaluation/metrics.py", "def f():\n    import transformers"),
        ("app/batch/page.py", "from app.compare import views"),
        ("app/engine/cache.py", "def f():\n    from app.web import html"),
        ("app/compare/run.py", "import app.ui"),
        ("app/compare/views.py", "from jinja2 import Template"),
        ("pruning/tokens.py", "from pruning.method import make"),
        ("pruning/models/vlm.py", "from transformers import AutoModel"),
        ("pruning/models/vlm.py", "class A:\n    import transformers.utils"),
        ("pruning/evaluation/plane.py", "from pruning import models"),
        ("pruning/evaluation/fidelity.py", "from pruning.models import VLM"),
        ("pruning/methods/x.py", "from pruning.models.vlm import VLM"),
        ("pruning/models/x.py", "def f():\n    import pruning.methods.dpp"),
        ("pruning/evaluation/cost.py", "from app.settings import Settings"),
        ("pruning/drawing/charts.py", "from matplotlib import pyplot as plt"),
    ],
)
def test_the_check_sees_each_breach(where, source):
    assert len(breaches(where, source)) == 1


def test_every_room_has_its_floor():
    for top, heights in HEIGHTS.items():
        rooms = {path.relative_to(ROOT / top).with_suffix("").parts[0] for path in (ROOT / top).rglob("*.py")}
        assert rooms <= heights.keys() | {"__init__"}, f"{top}: without a floor"
        assert heights.keys() <= rooms, f"{top}: no such room"


def test_the_check_allows_what_is_meant():
    lazy = "if TYPE_CHECKING:\n    import transformers\ndef f():\n    import transformers"
    assert breaches("pruning/models/vlm.py", lazy) == []
    assert breaches("app/ui.py", "import gradio as gr") == []
    assert breaches("pruning/training/tower.py", "from pruning.models import load") == []
