"""Where compiled code is kept when neither the packages nor a home can be written to."""

import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest

from pruning.ops import kernels


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder for temporary files, in which alone there is a place."""
    enable = numba.core.dispatcher.Dispatcher.enable_caching

    def enabled(dispatcher) -> None:
        if not numba.config.CACHE_DIR:
            raise RuntimeError("cannot cache function: no locator available")
        enable(dispatcher)

    monkeypatch.setattr("numba.core.dispatcher.Dispatcher.enable_caching", enabled)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def total(values):
    whole = 0.0
    for value in values:
        whole += value
    return whole


def test_compiled_code_is_kept_among_temporary_files_for_its_user_alone(nowhere: Path) -> None:
    assert kernels.compiled(total)(np.arange(4.0)) == 6
    (folder,) = nowhere.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.rglob("*total*.nbi"))
    assert kernels.compiled(total)(np.arange(3.0)) == 3, "the folder is taken again"


@pytest.mark.parametrize("spoilt", ["open to others", "a link", "a file", "no folder for temporary files"])
def test_compiled_code_is_never_read_from_where_another_may_write(nowhere: Path, spoilt: str) -> None:
    kernels.compiled(total)(np.arange(4.0))
    (folder,) = nowhere.iterdir()
    if spoilt == "open to others":
        folder.chmod(0o777)
    else:
        folder.rename(nowhere / "elsewhere")
        if spoilt == "a link":
            folder.symlink_to(nowhere / "elsewhere")
        elif spoilt == "a file":
            folder.write_text("")
        else:
            assert kernels._own_folder(nowhere / "gone") is None
            return
    numba.config.CACHE_DIR = ""
    assert kernels._own_folder(nowhere) is None
    assert kernels.compiled(total)(np.arange(4.0)) == 6
    assert numba.config.CACHE_DIR == ""
