"""The command line on the tiny model."""

from pathlib import Path

import pytest

from pruning.cli.main import main


@pytest.fixture
def run(tiny_folder: Path, capsys: pytest.CaptureFixture[str]):
    """run(*arguments) -> (exit code, stdout, stderr) on the tiny model."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--model", str(tiny_folder)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
