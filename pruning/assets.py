"""The files that come with the project: examples, shipped model, style and scripts, references; and its version.

A wheel carries them inside the package, as `pruning/_assets`; a checkout has them beside it, in `assets`.
"""

from __future__ import annotations

import importlib.metadata
import tomllib
from importlib.resources import files
from pathlib import Path

PROJECT = "idpruner-lab"
PACKAGE = Path(str(files("pruning")))
INSTALLED, CHECKOUT = PACKAGE / "_assets", PACKAGE.with_name("assets")
ROOT = INSTALLED if INSTALLED.is_dir() else CHECKOUT


class AssetError(ValueError):
    """A file that comes with the project is not there."""


def found(*parts: str) -> Path:
    """The file or folder below the assets. AssetError, with the remedy, where it is missing."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        where = f"{path}" if ROOT.is_dir() else f"neither {INSTALLED} nor {CHECKOUT} is there"
        raise AssetError(
            f"{'/'.join(parts)}, a file that comes with {PROJECT}, is missing ({where}): install it again "
            f"(pip install --force-reinstall --no-deps {PROJECT}), or restore the folder assets of the checkout"
        )
    return path


def text(name: str) -> str:
    """What a text file of the assets says. Raises AssetError as `found` does."""
    return found(name).read_text("utf-8")


def version() -> str:
    """The project's version: what a checkout's pyproject.toml states, else the installed package's."""
    stated = PACKAGE.with_name("pyproject.toml")
    if stated.is_file():
        project = tomllib.loads(stated.read_text("utf-8")).get("project", {})
        if project.get("name") == PROJECT:  # other packages leave files of this name beside theirs
            return str(project["version"])
    try:
        return importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:  # the packages were copied somewhere by hand
        return "unknown"
