"""The annotated trees: what they name is there, and every folder (of assets/ every file) is named in them."""

import re
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT
from tests.helpers.documents import text

TOPS = ("app", "pruning", "assets", "tests", "benchmarks", "docs")


def named(tree: str) -> set[str]:
    """The paths that a tree names. Two columns of a line at least two spaces apart; a folder ends in a slash."""
    paths: set[str] = set()
    folders: list[str] = []
    for line in tree.strip("\n").splitlines():
        found = re.fullmatch(r"( *)(\S+(?: \S+)*)  +(\S.*)", line)
        assert found, f"no words for {line!r}"
        depth = len(found[1]) // 2
        assert depth <= len(folders), f"{line!r} stands too deep"
        folders = folders[:depth]
        here = "".join(folders)
        names = found[2].split()
        paths |= {here + name for name in names}
        if names[0].endswith("/"):
            folders.append(names[0])
    return paths


def folders(root: Path) -> set[str]:
    """Every folder with a file of the project in it, below the rooms' tops, as a tree names it."""
    inside = {
        parent
        for top in TOPS
        for path in (root / top).rglob("*")
        if path.is_file()
        for parent in path.parents
        if "__pycache__" not in path.parts
    }
    return {f"{path.relative_to(root).as_posix()}/" for path in inside if path != root and path.is_relative_to(root)}


def gaps(tree: str, root: Path, wanted: set[str]) -> list[str]:
    """What is wrong with a tree, in words."""
    said = named(tree)
    gone = [
        f"{path} is named and not there"
        for path in sorted(said)
        if not ((root / path).is_dir() if path.endswith("/") else (root / path).is_file())
    ]
    return gone + [f"{path} is there and not named" for path in sorted(wanted - said)]


def tree_of(name: str) -> str:
    (tree,) = re.findall(r"^```\n(.*?)^```", text(name), re.DOTALL | re.MULTILINE)
    return tree


def asset_files() -> set[str]:
    rooms = [ROOT / "assets" / name for name in ("scripts", "styles", "templates")]
    return {path.relative_to(ROOT / "assets").as_posix() for room in rooms for path in room.iterdir()}


def test_the_architecture_names_every_room() -> None:
    assert gaps(tree_of("docs/architecture.md"), ROOT, folders(ROOT)) == []


def test_the_assets_name_every_file() -> None:
    assert gaps(tree_of("assets/README.md"), ROOT / "assets", asset_files()) == []
    loose = {path.name for path in (ROOT / "assets").iterdir() if path.is_file()}
    assert loose == {"README.md", "references.bib"}, "assets have rooms: scripts/, styles/, templates/"
    files = {path.suffix for path in (ROOT / "assets" / "scripts").iterdir()}
    assert files == {".js"}


@pytest.mark.parametrize(
    "change", [("app/ ", "apps/ "), ("  engine/ ", "  engin/ "), ("main.py settings.py", "main.py set.py")]
)
def test_the_check_sees_what_is_gone(change: tuple[str, str]) -> None:
    wrong = tree_of("docs/architecture.md").replace(*change, 1)
    assert wrong != tree_of("docs/architecture.md")
    assert any("not there" in gap for gap in gaps(wrong, ROOT, folders(ROOT)))


def test_the_check_sees_what_is_new(tmp_path: Path) -> None:
    (tmp_path / "app" / "attic").mkdir(parents=True)
    (tmp_path / "app" / "attic" / "a.py").touch()
    (tmp_path / "app" / "empty" / "__pycache__").mkdir(parents=True)
    assert gaps("app/  the web face\n", tmp_path, folders(tmp_path)) == ["app/attic/ is there and not named"]
