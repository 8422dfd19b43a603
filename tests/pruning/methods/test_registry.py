"""What is registered is everywhere: an oracle for each published method; menu, options, table and contracts for any."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pruning.method import METHODS
from tests.helpers import documents
from tests.helpers.checkout import ROOT


def test_every_published_method_is_held_to_a_brute_force_oracle() -> None:
    oracles: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("test_methods*.py")):
        module = importlib.import_module(f"tests.pruning.methods.{path.stem}")
        assert path.read_text(encoding="utf-8").count("ORACLES") > 1, f"{path.name} has oracles that no test asks"
        assert all(callable(oracle) for oracle in module.ORACLES.values())
        twice = oracles.keys() & module.ORACLES.keys()
        assert not twice, f"{twice} in {path.name} too"
        oracles |= dict.fromkeys(module.ORACLES, path.name)
    published = {name for name, method in METHODS.items() if method.paper}
    assert published <= oracles.keys(), f"without an oracle: {sorted(published - oracles.keys())}"
    assert oracles.keys() <= METHODS.keys(), f"oracles of no method: {sorted(oracles.keys() - METHODS.keys())}"


FIRST = ("method", "methods.dpp", "importance", "allocation", "models", "cli.console")
LOOK_AFTER_EACH = """
import os, sys
import torch  # once for all: it takes longest, and none of it is ours
for first in sys.argv[1:]:
    child = os.fork()
    if not child:
        __import__(f"pruning.{first}")
        from pruning import METHODS, make
        make("idpruner")
        print(*sorted(METHODS), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_registry_is_full_whatever_is_imported_first() -> None:
    looked = run(ROOT, "-c", LOOK_AFTER_EACH, *FIRST)
    assert (looked.stdout.splitlines(), looked.stderr) == ([" ".join(sorted(METHODS))] * len(FIRST), "")


def test_options_are_read_before_anything_heavy_is_imported() -> None:
    look = "import sys; from app import main; print([name for name in ('torch', 'gradio') if name in sys.modules])"
    assert run(ROOT, "-c", look).stdout == "[]\n"


# What a reader of "Add a method" would look for, printed by a process that knows only the files of the copy.
LOOK = """
import json
from types import SimpleNamespace
from app.engine.capabilities import Capabilities
from app.web.controls import Controls
from pruning.cli.parser import build_parser
from pruning.cli.method_table import method_table

none = SimpleNamespace(title="No model", signals=frozenset(), notes={}, no_stages="", encodings=frozenset())
controls, can = Controls(), Capabilities(none)
chosen = ["answer", "a.png", "why?", "--method", "outliers", "--neighbours", "3"]
print(json.dumps({
    "menu": can.menu(1),
    "knobs": [[knob.param.name, sorted(knob.methods)] for knob in controls.knobs],
    "built": repr(controls.named(can, "outliers", 1.0, 1.0, {})),
    "options": vars(build_parser().parse_args(chosen))["neighbours"],
    "table": method_table(),
}))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's code alone, to which files can be added without a trace."""
    for folder in ("pruning", "app", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)  # compiled kernels come along: nothing is compiled anew
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_a_method_in_one_new_file_is_everywhere(copy: Path) -> None:
    source = documents.block("docs/methods.md", "python", "@register")
    (copy / "pruning" / "methods" / "outliers.py").write_text(source, encoding="utf-8")
    looked = run(copy, "-c", LOOK)
    assert looked.returncode == 0, looked.stderr
    found = json.loads(looked.stdout.splitlines()[-1])
    assert [line for line, name in found["menu"] if name == "outliers" and line.startswith("Outliers")]
    assert ["neighbours", ["outliers"]] in found["knobs"]
    assert found["built"] == "Outliers(neighbours=8)"
    assert found["options"] == 3
    assert "**Outliers** `outliers`" in found["table"]
    assert "`neighbours` = 8 (4 to 64)" in found["table"]
    held = run(
        copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/pruning/methods/test_contracts.py", "-k", "utliers"
    )
    assert held.returncode == 0, held.stdout
    assert int(re.search(r"(\d+) passed", held.stdout)[1]) > 20


@pytest.mark.slow
def test_a_published_method_without_an_oracle_is_noticed(copy: Path) -> None:
    source = '''
from dataclasses import dataclass
from typing import ClassVar
from pruning.method import ScoreMethod, register

@register
@dataclass(frozen=True)
class Unproven(ScoreMethod):
    """https://arxiv.org/abs/2602.13315"""
    name: ClassVar[str] = "unproven"
    title: ClassVar[str] = "Unproven"
    paper: ClassVar[str] = "https://arxiv.org/abs/2602.13315"

    def score(self, tokens):
        return tokens.features[:, 0]
'''
    (copy / "pruning" / "methods" / "unproven.py").write_text(source, encoding="utf-8")
    name = test_every_published_method_is_held_to_a_brute_force_oracle.__name__
    test = f"tests/pruning/methods/test_registry.py::{name}"
    checked = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    assert checked.returncode == 1
    assert "without an oracle: ['unproven']" in checked.stdout
