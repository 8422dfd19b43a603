"""The page's scripts, linted as the page gets them: a component's may be several files one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from app.ui import launch_options
from tests.helpers.checkout import ROOT


def lint(*paths: Path) -> subprocess.CompletedProcess[str]:
    """oxlint over files and folders, with the rules of the project."""
    command = [Path(sys.executable).with_name("oxlint"), "--config", ROOT / ".oxlintrc.json", "--deny-warnings"]
    return subprocess.run([*command, "--format=unix", *paths], capture_output=True, text=True)


@pytest.fixture(scope="module")
def scripts(served, tmp_path_factory) -> Path:
    """A folder with the script of the page's head and with that of each component that has one."""
    folder = tmp_path_factory.mktemp("scripts")
    head = launch_options(Settings())["head"].removeprefix("<script>").removesuffix("</script>")
    (folder / "head.js").write_text(head, "utf-8")
    for component in httpx.get(f"{served.url}config").json()["components"]:
        if script := component["props"].get("js_on_load"):
            name = component["props"]["elem_id"] or component["id"]
            (folder / f"{name}.js").write_text(script, "utf-8")
    return folder


def test_the_page_s_scripts_are_sound(scripts):
    assert {path.stem for path in scripts.iterdir()} >= {"head", "canvas", "presenter"}
    found = lint(scripts, ROOT / "tests")
    assert found.returncode == 0, found.stdout


def test_a_name_that_no_file_brings_is_found(tmp_path):
    (tmp_path / "half.js").write_bytes((ROOT / "assets" / "scripts" / "canvas.js").read_bytes())
    found = lint(tmp_path)
    assert found.returncode == 1
    assert "'selectionAt' is not defined" in found.stdout
