"""The page's scripts: linted, tested by Node where they need no page, and served as they are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from playwright._impl._driver import compute_driver_executable

from app.web import scripts
from pruning import assets
from tests.helpers.checkout import ROOT

SCRIPTS, TESTS = ROOT / "assets" / "scripts", ROOT / "tests" / "scripts"


def lint(*paths: Path) -> subprocess.CompletedProcess[str]:
    """oxlint over files and folders, with the rules of the project."""
    command = [Path(sys.executable).with_name("oxlint"), "--config", ROOT / ".oxlintrc.json", "--deny-warnings"]
    return subprocess.run([*command, "--format=unix", *paths], capture_output=True, text=True)


def node(*paths: Path) -> tuple[dict[str, int], str]:
    """What Node's own test runner counts in files of tests, and all that it says. Playwright's driver brings a Node."""
    command = [compute_driver_executable()[0], "--test", "--test-reporter=tap", *map(str, paths)]
    said = subprocess.run(command, capture_output=True, text=True)
    counts = {name: int(count) for name, count in re.findall(r"^# (\w+) (\d+)$", said.stdout, re.MULTILINE)}
    assert (said.returncode == 0) == (counts.get("fail") == 0), said.stdout + said.stderr
    return counts, said.stdout


def test_the_scripts_are_sound() -> None:
    found = lint(SCRIPTS, ROOT / "tests")
    assert found.returncode == 0, found.stdout


def test_a_name_that_no_module_brings_is_found(tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    model = tmp_path / "scripts" / "canvas-model.js"
    model.write_text(model.read_text("utf-8").replace("export function tokenAt", "export function patchAt"), "utf-8")
    found = lint(tmp_path / "scripts")
    assert found.returncode == 1
    assert re.search(r'"tokenAt" not found', found.stdout), found.stdout


def test_what_needs_no_page_holds_in_node() -> None:
    files = sorted(TESTS.glob("*.test.js"))
    counts, said = node(*files)
    assert counts["fail"] == counts["skipped"] == counts["todo"] == counts["cancelled"] == 0, said
    stated = sum(len(re.findall(r"^test\(", file.read_text("utf-8"), re.MULTILINE)) for file in files)
    assert counts["pass"] == counts["tests"] == stated > 0


def test_a_wrong_script_fails_in_node(tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "assets" / "scripts")
    shutil.copytree(TESTS, tmp_path / "tests" / "scripts")
    sort = tmp_path / "assets" / "scripts" / "sort.js"
    sort.write_text(sort.read_text("utf-8").replace("? a - b : b - a", "? b - a : a - b"), "utf-8")
    counts, said = node(tmp_path / "tests" / "scripts" / "tables-and-charts.test.js")
    assert counts["fail"] == 2, said


def test_they_are_served_as_they_are_and_kept_for_good(served) -> None:
    for path in scripts.modules():
        told = httpx.get(f"{served.url}{scripts.place()}/{path.name}")
        assert told.content == path.read_bytes()
        assert re.match(r"(text|application)/javascript", told.headers["content-type"])
        assert told.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert f'src="{scripts.place()}/page.js"' in httpx.get(f"{served.url}config").json()["head"]


@pytest.mark.parametrize(
    "path", ["scripts/0123456789abcdef/page.js", "{place}/none.js", "{place}/%2e%2e/references.bib"]
)
def test_nothing_else_is_served_with_them(served, path: str) -> None:
    assert httpx.get(served.url + path.format(place=scripts.place())).status_code == 404


def test_their_address_changes_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    before = scripts.place()
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    assert scripts.place() == before
    with (tmp_path / "scripts" / "frames.js").open("a") as file:
        file.write("// another word\n")
    assert scripts.place() != before


@pytest.mark.parametrize("name", ["frames", "page", "canvas"])
def test_a_script_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    (tmp_path / "scripts" / f"{name}.js").unlink()
    with pytest.raises(assets.AssetError, match=rf"^scripts/{name}\.js, .*install it again"):
        scripts.head({}), scripts.start("canvas")
