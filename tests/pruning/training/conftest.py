"""Shared by the tests of training."""

from pathlib import Path

import pytest

from pruning.models import VLM, load


@pytest.fixture(scope="module")
def eager(tiny_folder: Path) -> VLM:
    return load(tiny_folder, attention="eager", device="cpu")
