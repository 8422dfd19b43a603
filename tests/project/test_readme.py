"""README and docs/ say what the code does: tables, citations, library example, commands, links, pictures."""

import re
import shlex
from pathlib import Path

import pytest

from pruning.cli import main as command_line
from pruning.cli.parser import build_parser
from pruning.encoding import ENCODING
from pruning.method import METHODS
from pruning.params import params
from pruning.staged import STAGED
from tests.helpers import documents
from tests.helpers.checkout import ROOT


def test_the_method_table_is_the_registry_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["methods"]) == 0
    table = capsys.readouterr().out.strip()
    facts, details, inside, before = table.split("\n\n")
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
    for name, encoding in ENCODING.items():
        (row,) = (line for line in before.splitlines() if f"**{encoding.title}** `{name}`" in line)
        assert encoding.adaptation in row
        assert all(f"`{param.name}` = " in row for param in params(encoding))
    stands = f"<!-- methods: begin -->\n{table}\n<!-- methods: end -->"
    assert stands in documents.text("docs/methods.md"), "run `python -m pruning methods`"


def test_every_paper_of_a_method_is_cited() -> None:
    entries = (ROOT / "assets" / "references.bib").read_text("utf-8")
    for method in (*METHODS.values(), *STAGED.values()):
        if method.paper:
            number = method.paper.rsplit("/", 1)[-1]
            entry = re.search(rf"@\w+{{[^@]*{re.escape(number)}[^@]*", entries)
            assert entry, f"{method.title}: arXiv {number} is not among the citations"
            assert method.venue[-4:] in entry[0], f"{method.title}: {method.venue} and its citation differ"


def test_the_library_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    source = documents.block("README.md", "python", "load()")
    monkeypatch.chdir(ROOT)
    exec(compile(source, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def commands() -> list[str]:
    lines = [
        line for name in documents.names() for block in documents.blocks(name, "bash") for line in block.splitlines()
    ]
    return sorted({line for line in lines if line.startswith("python -m pruning ")})


@pytest.mark.parametrize("line", commands())
def test_the_commands_are_understood(line: str) -> None:
    build_parser().parse_args(shlex.split(line)[3:])


@pytest.mark.parametrize("name", documents.names())
def test_links_lead_somewhere(name: str) -> None:
    assert [path for path in documents.links(name) if not path.exists()] == []
    for path, heading in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", documents.text(name)):
        there = ((ROOT / name).parent / path if path else ROOT / name).read_text("utf-8")
        headings = {
            re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)", there, re.M)
        }
        assert heading in headings, f"{name}: {path}#{heading}"


def linked(*names: str) -> set[Path]:
    return {path.resolve() for name in names for path in documents.links(name)}


def test_every_page_is_linked_from_the_readme_and_every_picture_from_some_page() -> None:
    assert set((ROOT / "docs").glob("*.md")) <= linked("README.md")
    assert set((ROOT / "docs" / "screenshots").iterdir()) <= linked(*documents.names()), "nothing links these pictures"


def test_the_readme_is_short() -> None:
    assert len(documents.text("README.md").encode()) < 10_240, "tables and long parts stand in docs/"
