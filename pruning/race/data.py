"""Data sets: the shipped worlds, JSON lines, Parquet, a folder of pictures. Read row by row; none is held.

`scenes`            held-out pictures of a world and their questions (`pruning.scenes.worlds`)
`FILE.jsonl`        a JSON object per line; `FILE.parquet`: a row per record; fields as `records.record_of` has them
`FOLDER`            pictures and clips, each beside a text file of its name (cat.png, cat.txt): the question on its
                    first line, the answers on the others
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pruning.debris import is_debris
from pruning.race.folder import Result
from pruning.race.pictures import FILMS, USUAL, DrawnPicture, FilePicture, Picture
from pruning.race.records import FIELDS, Fault, Record, record_of
from pruning.scenes.held_out import drawn, held_out
from pruning.scenes.worlds import WORLDS, World

MEDIA: Final = FILMS | {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
LONGEST_LINE: Final = 64 * 2**20
"""Bytes of a line of JSON: a picture as Base64 fits."""
SCENES: Final = 240


@dataclass(frozen=True)
class DataSet:
    """name: for people; source: what names it, from any folder; reading: with what else `open_data` opened it. `rows()`
    reads it anew, from the first row on.
    """

    name: str
    source: str
    reading: Mapping[str, Any]
    read: Callable[[], Iterator[Record | Fault]]

    def rows(self) -> Iterator[Record | Fault]:
        """Every row in order, up to the limit. One that is wrong is a Fault; so is one whose id another row has."""
        seen: dict[str, int] = {}
        suffix, fps, most = self.reading["suffix"], self.reading.get("fps"), self.reading.get("max_frames")
        for row in islice(self.read(), self.reading["limit"]):
            if suffix and isinstance(row, Record):
                row = replace(row, suffix=suffix)
            if isinstance(row, Record) and isinstance(row.picture, FilePicture):
                row = replace(row, picture=replace(row.picture, fps=fps, max_frames=most))
            first = seen.setdefault(row.id, row.row)
            if isinstance(row, Record) and first != row.row:
                yield Fault(row.row, f"{row.id} (row {row.row})", f"its id {row.id!r} is that of row {first} already: "
                            "give each row an id of its own, or none")  # fmt: skip
            else:
                yield row


def picture_of(data: DataSet, result: Result) -> Picture:
    """The picture that a result is about. Raises ValueError where it is not there any more, or has changed."""
    if data.source in WORLDS:
        picture: Picture | None = _world_picture(WORLDS[data.source], result)
    else:
        found = (row.picture for row in data.rows() if isinstance(row, Record) and row.id == result.id)
        picture = next(found, None)
    if picture is None or picture.digest() != result.digest:
        raise ValueError(f"the picture of row {result.row} is not there any more, or has changed: race anew to see it")
    return picture


def open_data(
    source: str,
    *,
    metric: str | None = None,
    limit: int | None = None,
    scenes: int = SCENES,
    columns: Mapping[str, str] | None = None,
    suffix: str = "",
    fps: float | None = None,
    max_frames: int | None = None,
) -> DataSet:
    """The data set that is named: a world, a JSONL or Parquet file, or a folder.

    metric: of rows that name none. limit: rows at most. scenes: pictures of a world, with a question of each family.
    columns: field of a record -> the file's own name for it, or several with commas between; all others are then left
    out. suffix: stands below every question, such as "Answer with a single word.". fps, max_frames: of clips, frames
    taken of each second, and in all; None: as the model takes them.

    Raises ValueError for a name that is none of these, for an empty folder, for Parquet without pyarrow, for an unknown
    field, for columns of what has none, and for a rate or number of frames that is none.
    """
    USUAL.but(fps, max_frames)  # refuses what is none
    if unknown := sorted(set(columns or ()) - set(FIELDS)):
        raise ValueError(f"--columns names {unknown[0]!r}, which is no field of a record: name {', '.join(FIELDS)}")
    for what, value in (("rows", limit), ("pictures", scenes)):
        if value is not None and value < 1:
            raise ValueError(f"{value} {what} are nothing to race on: allow at least 1")
    reading: dict[str, Any] = {"metric": metric, "limit": limit, "scenes": scenes, "columns": columns, "suffix": suffix}
    reading |= {name: value for name, value in (("fps", fps), ("max_frames", max_frames)) if value is not None}
    if source in WORLDS:
        return DataSet(source, source, reading, partial(_world, WORLDS[source], scenes))
    path = Path(source)
    known = f"name a world ({', '.join(WORLDS)}), a .jsonl or .parquet file, or a folder of pictures"
    if path.is_dir():
        return DataSet(
            path.name, str(path.resolve()), reading, partial(_folder, _pictures(path), path, metric or "exact")
        )
    if not path.is_file():
        raise ValueError(f"the data set {source!r} is not there: {known}")
    readers = {".jsonl": _json_lines, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(f"the data set {source!r} is of no known kind: {known}")
    if path.suffix.lower() == ".parquet":
        _pyarrow()
    read = partial(readers[path.suffix.lower()], path, metric, columns)
    return DataSet(path.stem, str(path.resolve()), reading, read)


def _world(world: World, scenes: int) -> Iterator[Record]:
    row = 0
    for picture, questions in held_out(world, scenes):
        shown = _drawn(world, picture)
        for question in questions:
            row += 1
            name = f"{shown.name}-{question.family}"
            yield Record(row, name, shown, question.text, (question.answer,), "exact", (), question.family)


def _drawn(world: World, picture: Any) -> DrawnPicture:
    height, width = picture.image.shape[:2]
    pixels = hashlib.sha256(picture.image.tobytes()).hexdigest()
    return DrawnPicture(world.name, picture.seed, height, width, pixels)


def _world_picture(world: World, result: Result) -> DrawnPicture:
    return _drawn(world, drawn(world, int(result.picture.rpartition("-")[2])))


def _json_lines(path: Path, metric: str | None, columns: Mapping[str, str] | None) -> Iterator[Record | Fault]:
    with path.open("rb") as file:
        row = 0
        while line := file.readline(LONGEST_LINE):
            row += 1
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                yield Fault(row, str(row), f"the line has more than {LONGEST_LINE:,} bytes: name the picture's file")
                return
            if line.strip():
                yield _row(partial(_object, line, columns), row, path.parent, metric)


def _object(line: bytes, columns: Mapping[str, str] | None) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the line is no JSON ({error}): write one object per line") from error
    if not isinstance(found, dict):
        raise ValueError(f"the line holds {type(found).__name__}, not an object: write one object per line")
    found = dict(_named(found, columns))
    image = found.get("image")
    if isinstance(image, str) and image.startswith("data:"):
        return {**found, "image": {"bytes": image.partition(";base64,")[2]}}
    return found


def _parquet(path: Path, metric: str | None, columns: Mapping[str, str] | None) -> Iterator[Record | Fault]:
    row = 0
    try:
        for batch in _pyarrow().ParquetFile(path).iter_batches(batch_size=16):
            for fields in batch.to_pylist():
                row += 1
                yield _row(partial(_present, fields, columns), row, path.parent, metric)
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise ValueError(f"{path} cannot be read after row {row} ({error}): write the file anew") from error


def _present(fields: Mapping[str, Any], columns: Mapping[str, str] | None) -> Mapping[str, Any]:
    return {name: value for name, value in _named(fields, columns).items() if value is not None}


def _named(fields: Mapping[str, Any], columns: Mapping[str, str] | None) -> Mapping[str, Any]:
    """The record's fields of what the file calls otherwise; of several columns a list of those that are filled."""
    if columns is None:
        return fields
    found = {name: fields[name] for name in (*FIELDS, "answer") if name in fields}
    for name, theirs in columns.items():
        several = theirs.split(",")
        if missing := [each for each in several if each not in fields]:
            raise ValueError(f"there is no column {missing[0]!r}, only {', '.join(fields)}: correct --columns")
        values = [fields[each] for each in several]
        found[name] = values[0] if len(values) == 1 else [each for each in values if _filled(each)]
    return found


def _filled(value: Any) -> bool:
    return value is not None and str(value).strip().lower() not in ("", "nan")


def _pyarrow() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ValueError("Parquet files need pyarrow: pip install pyarrow, or use JSON lines") from error


def _pictures(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in MEDIA and not is_debris(p.name))
    if not found:
        raise ValueError(
            f"the folder {folder} holds no picture or clip: put some there, each beside a text file of its name"
        )
    return found


def _folder(paths: list[Path], folder: Path, metric: str) -> Iterator[Record | Fault]:
    for row, path in enumerate(paths, 1):
        found = _row(partial(_beside, path), row, folder, metric)
        yield replace(found, id=path.name)


def _beside(path: Path) -> Mapping[str, Any]:
    told = path.with_suffix(".txt")
    try:
        lines = [line.strip() for line in told.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{told.name}, with the question about {path.name}, cannot be read ({error}): write it, the "
                         "question on its first line, answers on the others") from error  # fmt: skip
    return {"image": path.name, "question": "".join(lines[:1]), "answers": lines[1:]}


def _row(read: Callable[[], Mapping[str, Any]], row: int, folder: Path, metric: str | None) -> Record | Fault:
    name = str(row)
    try:
        fields = read()
        if isinstance(given := fields.get("id"), str | int):
            name = str(given) or name
        return record_of(fields, row, folder, metric)
    except ValueError as error:
        return Fault(row, name, str(error))
