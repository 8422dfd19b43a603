"""What a scorer is trained on: a picture, a question, the answer; from a file of records, or scenes without end.

The record at a place of the run follows from the place alone, so training resumes anywhere without a record of what was
seen.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pruning.images import open_image, short
from pruning.models.families.geometry import check_aspect
from pruning.scenes import FAMILIES, render
from pruning.scenes.questions import ask, rephrase
from pruning.text import check_text
from pruning.training.labels import pixel_classes

HELD_OUT = 5  # is added to the seed of scenes that are held out: other ones
FIRST_SCENE = 800_000_000  # scenes from here on were used for nothing else
SHOWN = 5  # bad lines named in one message
EVERY = 10.0  # seconds between two words on how far the check has come
THREADS = 8  # at most; each holds one picture
WIDE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
FIELDS = ("image", "question", "answer")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """`name` tells a reader where it comes from; `picture` opens the image, RGB, or raises ValueError. path: of its
    file; None where it is drawn. shows: (H, W) int64, the class of every pixel, see `labels.CLASSES`; None where nobody
    knows.
    """

    name: str
    question: str
    answer: str
    picture: Callable[[], Image.Image]
    path: Path | None = None
    shows: Callable[[], NDArray[np.int64]] | None = None


class Records(Protocol):
    """Endless: place 0, 1, 2 … of a run."""

    title: str
    size: int | None  # of one epoch; None: no record comes twice
    digest: str  # of the data, so that a run tells what it was trained on; "": it is drawn by the seed

    def at(self, place: int) -> Record: ...


class FileRecords:
    """The records of a JSON Lines file, reshuffled every epoch."""

    def __init__(self, file: Path, images: Path | None = None, seed: int = 0) -> None:
        """Each line is {"image": path, "question": text, "answer": text}; more fields are ignored, as are empty lines.

        images: the folder that the paths start from; None: the file's own.

        Raises:
            ValueError: no records, or bad ones, named by line with what is wrong. Every picture is opened once, just as
                the run will open it: what passes here does not stop the run later.
        """
        self.title, self._seed, folder = str(file), seed, images or file.parent
        found: dict[int, Record] = {}
        faults: dict[int, str] = {}
        for number, line in enumerate(_lines(file), 1):
            if line.strip():
                try:
                    found[number] = _record(line, folder, f"{file}, line {number}")
                except ValueError as error:
                    faults[number] = str(error)
        bad = _bad_pictures([record.path for record in found.values() if record.path])
        faults |= {number: bad[record.path] for number, record in found.items() if record.path in bad}
        if faults:
            told = [f"line {number}: {faults[number]}" for number in sorted(faults)]
            more = f"\n… and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
            raise ValueError(f"{file} has {len(told)} bad records:\n" + "\n".join(told[:SHOWN]) + more)
        if not found:
            raise ValueError(f'{file} holds no records: write one {{"image", "question", "answer"}} to a line')
        self._records = list(found.values())
        self.digest = _digest(file, self._records)
        self.size: int | None = len(self._records)
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def at(self, place: int) -> Record:
        epoch, place = divmod(place, len(self._records))
        return self._records[self._order(epoch)[place]]

    def _shuffled(self, epoch: int) -> list[int]:
        order: list[int] = np.random.default_rng([self._seed, epoch]).permutation(len(self._records)).tolist()
        return order


class SceneRecords:
    """Drawn scenes with questions about them: built-in data, each scene used once."""

    title: str = "scenes"
    size: int | None = None
    digest: str = ""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def at(self, place: int) -> Record:
        scene = render(FIRST_SCENE + self._seed * 10_000_000 + place)
        rng = np.random.default_rng([5, self._seed, place])
        question = None
        while question is None:  # not every scene has something to ask of every family
            question = ask(scene, rng, FAMILIES[int(rng.integers(len(FAMILIES)))])
        if rng.random() < 0.5:
            question = rephrase(question, rng)
        return Record(
            f"scene {place}",
            question.text,
            question.answer,
            lambda: Image.fromarray(scene.image),
            shows=lambda: pixel_classes(scene),
        )


def held_out(seed: int) -> SceneRecords:
    """Scenes that a run of this seed does not train on."""
    return SceneRecords(seed + HELD_OUT)


def _digest(file: Path, records: Sequence[Record]) -> str:
    """16 hexadecimal digits of the file's bytes and the sizes of its pictures in bytes: SHA-256. To read all pictures
    for it once more would take as long as to check them.
    """
    found = hashlib.sha256(file.read_bytes())
    for record in records:
        found.update(f"\n{record.path.stat().st_size if record.path else 0}".encode())
    return found.hexdigest()[:16]


def _lines(file: Path) -> list[str]:
    """Lines end where JSON Lines says: a text may well hold other characters that some count as the end of a line."""
    try:
        data = file.read_bytes()
        if data.startswith(WIDE) or b"\0" in data[:4]:
            raise ValueError(f"{file} is UTF-16 or UTF-32 text: save it as UTF-8, which JSON Lines is in")
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as UTF-8 text ({error}): name a JSON Lines file") from error
    # A byte order mark also stands between files that were put together.
    return [line.removeprefix("\ufeff") for line in text.split("\n")]


def _record(line: str, folder: Path, name: str) -> Record:
    """Raises ValueError for a line that is none; the picture is not opened yet."""
    try:
        fields: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at character {error.pos + 1})") from error
    except RecursionError as error:
        raise ValueError("it is not a record: its brackets go too deep") from error
    if not isinstance(fields, dict):
        raise ValueError(f"it is not an object with the fields {', '.join(FIELDS)}")
    for field in FIELDS:
        value = fields.get(field)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"the field {field!r} must be a text that is not empty, not {short(repr(value))}")
        check_text(f"the field {field!r}", value)
    image = fields["image"]
    if image.lower().startswith(("data:", "http://", "https://")):
        raise ValueError(f"the image {short(repr(image))} is an address: save the picture as a file and name its path")
    path = folder / image
    if not os.path.isfile(path):
        raise ValueError(
            f"the image {short(str(path))} does not exist: correct the path, or name its folder with --images"
        )
    return Record(name, fields["question"], fields["answer"], lambda: open_image(path), path)


def _bad_pictures(paths: list[Path]) -> dict[Path, str]:
    """What is wrong with which of these pictures, each of which is opened once. Tells how far it has come."""
    wanted, bad, told = list(dict.fromkeys(paths)), dict[Path, str](), time.monotonic()
    pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))  # decoders compute beside each other
    try:
        for done, (path, fault) in enumerate(zip(wanted, pool.map(_fault, wanted), strict=True), 1):
            if fault:
                bad[path] = f"the image {short(str(path))} cannot be opened: {fault}"
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                log.info("checked %s of %s pictures", f"{done:,}", f"{len(wanted):,}")
    finally:
        pool.shutdown(cancel_futures=True)
    return bad


def _fault(path: Path) -> str | None:
    """Why a picture cannot be used in a run, by opening it in the way the run does."""
    try:
        check_aspect(*open_image(path).size)
    except ValueError as error:
        return str(error)
    return None
