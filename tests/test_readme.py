"""The README says what the code does: table, citations, library example, commands, picture files."""

import re
import shlex
from pathlib import Path

import pytest

from pruning import __main__ as command_line
from pruning.method import METHODS
from pruning.params import params
from pruning.staged import STAGED

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_method_table_is_the_registry_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["methods"]) == 0
    table = capsys.readouterr().out.strip()
    facts, details, inside = table.split("\n\n")
    for name, method in METHODS.items():
        (row,) = (line for line in facts.splitlines() if f"**{method.title}** `{name}`" in line)
        assert row.count("|") == facts.splitlines()[0].count("|")
        assert method.venue in row
        assert method.adaptation in details
        assert all(f"`{param.name}` = " in details for param in params(method))
    for name, staged in STAGED.items():
        (row,) = (line for line in inside.splitlines() if f"**{staged.title}** `{name}`" in line)
        assert staged.venue in row
        assert staged.adaptation in row
        assert all(f"`{param.name}` = " in row for param in params(staged))
    assert f"<!-- methods: begin -->\n{table}\n<!-- methods: end -->" in README, "run `python -m pruning methods`"


def test_every_paper_of_a_method_is_cited() -> None:
    entries = (ROOT / "assets" / "references.bib").read_text("utf-8")
    for method in METHODS.values():
        if method.paper:
            number = method.paper.rsplit("/", 1)[-1]
            entry = re.search(rf"@\w+{{[^@]*{re.escape(number)}[^@]*", entries)
            assert entry, f"{method.title}: arXiv {number} is not among the citations"
            assert method.venue[-4:] in entry[0], f"{method.title}: {method.venue} and its citation differ"


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
    folders: list[str] = []
    for line in tree.strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = line[:27].split()
        for name in names:
            where = ROOT.joinpath(*folders[:depth], name)
            assert where.exists(), where
        if names[0].endswith("/"):
            folders = [*folders[:depth], names[0]]
