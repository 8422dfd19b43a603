"""Files that commands write: where they may lie, pictures, tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from pruning.drawing import overlays as draw
from pruning.race.reading import as_csv

PICTURES = (".png", ".jpg", ".jpeg")


def check_path(path: Path | None, *endings: str) -> None:
    """ValueError unless a file of one of these kinds can be written there; the folder has to exist."""
    if path is None:
        return
    if endings and path.suffix.lower() not in endings:
        raise ValueError(f"{path} must end in {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist: create it first")


def write_picture(path: Path, image: draw.Image) -> None:
    path.write_bytes(draw.png(image) if path.suffix.lower() == ".png" else draw.jpeg(image))


def write_table(file: TextIO, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows, at least one, as CSV; a column that a row lacks is empty in it."""
    file.write(as_csv(rows))
