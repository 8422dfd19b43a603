"""The README says what the code does: table, example of a method, library example, commands, picture files."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from pruning import __main__ as command_line
from pruning.method import METHODS, make
from pruning.tokens import Grid, VisualTokens

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_method_table_is_the_registry_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["methods"]) == 0
    table = capsys.readouterr().out.strip()
    assert table.count("\n") == len(METHODS) + 1
    assert f"<!-- methods: begin -->\n{table}\n<!-- methods: end -->" in README


def test_a_method_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = [block for block in blocks("python") if "@register" in block]
    (tmp_path / "checkerboard_of_the_readme.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        __import__("checkerboard_of_the_readme")
        kept = make("checkerboard", period=3).select(VisualTokens(torch.eye(9), (Grid(1, 3, 3),)), 3)
        assert kept.order.tolist() == [0, 3, 6]
        command_line.main(["methods"])
        assert "| `checkerboard` |" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            command_line.main(["answer", "--help"])
        assert "--period" in capsys.readouterr().out
    finally:
        METHODS.pop("checkerboard", None)
        sys.modules.pop("checkerboard_of_the_readme", None)


def test_the_library_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = [block for block in blocks("python") if "load()" in block]
    monkeypatch.chdir(ROOT)
    exec(compile(source, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    "line", [line for block in blocks("bash") for line in block.splitlines() if line.startswith("python -m pruning ")]
)
def test_the_commands_are_understood(line: str) -> None:
    command_line.build_parser().parse_args(shlex.split(line)[3:])


def test_every_file_and_picture_named_is_there() -> None:
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    tree = README.split("## How it is built")[1].split("```")[1]
    folder = ""
    for line in tree.strip().splitlines():
        names = [n for n in line[:27].split() if n]
        if not line.startswith(" "):
            folder = names[0] if names[0].endswith("/") else ""
        for name in names:
            where = ROOT / name if not line.startswith(" ") else ROOT / folder / name
            assert where.exists(), where
