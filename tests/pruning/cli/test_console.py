"""What the programs write, on consoles that lack characters, and where nobody reads it."""

from __future__ import annotations

import ast
import importlib
import io
import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest

from app import main as page
from pruning import assets
from pruning.cli import console
from pruning.cli import main as commands
from pruning.training import __main__ as training

ENCODINGS = ("cp1252", "cp437", "ascii", "utf-8")
HELP = [[], ["answer"], ["sweep"], ["scenes"], ["bench"], ["methods"], ["answer", "all"]]
BENCHMARKS = ("app", "canvas", "models", "selection", "visitors")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch):
    """written(encoding, work): what `work` writes to standard output and standard error in that encoding."""

    def run(encoding: str, work) -> tuple[str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        with suppress(SystemExit):
            work()
        monkeypatch.undo()
        for stream in streams:
            stream.flush()
        return tuple(stream.buffer.getvalue().decode(encoding) for stream in streams)

    return run


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_all_help_and_tables_can_be_written(written, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in HELP:
        shown, _ = written(encoding, lambda words=words: commands.main([*words[:1], "--help", *words[1:]]))
        assert "usage:" in shown or words[1:]
    for words in ([], ["scorer"], ["export"]):
        assert "usage:" in written(encoding, lambda words=words: training.main([*words, "--help"]))[0]
    for name in BENCHMARKS:
        module = importlib.import_module(f"benchmarks.{name}")
        assert "usage:" in written(encoding, lambda module=module: module.main(["--help"]))[0]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["app.py", "--help"])
        assert "usage: python app.py" in written(encoding, page.main)[0]
    table, _ = written(encoding, lambda: commands.main(["methods"]))
    assert ("λ: `mmr_lambda`" if encoding == "utf-8" else "lambda: `mmr_lambda`") in table


def test_what_a_console_has_is_written_as_it_is(written) -> None:
    def work() -> None:
        console.fit_streams()
        sys.stdout.write("GlobalCom² · café – λ ≥ τ Σ → ﬁ ✓ 図 \udcff")

    assert written("cp1252", work)[0] == "GlobalCom² · café – lambda >= tau Sigma -> fi ? ? ?"
    assert written("ascii", work)[0] == "GlobalCom2 * cafe - lambda >= tau Sigma -> fi ? ? ?"
    assert written("utf-8", work)[0] == "GlobalCom² · café – λ ≥ τ Σ → ﬁ ✓ 図 ?"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_loses_nothing(written, encoding: str) -> None:
    value = {"λ": "図 café", "file": "\udcff.png"}

    def work() -> None:
        console.fit_streams()
        sys.stdout.write(console.as_json(value))

    assert json.loads(written(encoding, work)[0]) == value


def test_a_choice_of_the_user_s_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = io.TextIOWrapper(io.BytesIO(), "ascii", errors="xmlcharrefreplace")
    monkeypatch.setattr(sys, "stdout", chosen)
    console.fit_streams()
    assert chosen.errors == "xmlcharrefreplace"


def run(line: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in the checkout, with `python` for this one, and its output buffered as it is by default."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    line = f'set -o pipefail; python() {{ {sys.executable} "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", line], cwd=assets.PACKAGE.parent, env=buffered, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("python -m pruning methods | { exec <&-; sleep 4; }", 141),
        ("python app.py --help | { exec <&-; sleep 2; }", 141),
        (
            "python -m pruning scenes --mmr-lambda 1 --diversity-weight 1 2>&1 >&- | { exec <&-; sleep 4; }",
            141,
        ),
        ("python app.py --help >&-", 0),
    ],
)
def test_a_reader_that_went_away_is_no_fault(line: str, code: int) -> None:
    done = run(line)
    assert done.stderr == ""
    assert done.returncode == code


def test_a_full_disk_is_told() -> None:
    done = run("python app.py --help >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_every_program_writes_through_it() -> None:
    root = assets.PACKAGE.parent
    for path in [path for top in ("app", "pruning", "benchmarks") for path in sorted((root / top).rglob("*.py"))]:
        source = path.read_text("utf-8")
        if "argparse" in source and 'if __name__ == "__main__"' in source:
            (main,) = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == "main")
            assert [ast.unparse(each) for each in main.decorator_list] == ["console.command"], path


def test_a_program_goes_by_the_name_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    for called, name in {"/x/bin/idpruner": "idpruner", "idpruner.exe": "idpruner", "/x/__main__.py": "-"}.items():
        monkeypatch.setattr(sys, "argv", [called])
        assert console.program("idpruner", "-") == name
