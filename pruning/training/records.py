"""What a scorer is trained on: a picture, a question, the answer; from a file of records, or scenes without end.

The record at a place of the run follows from the place alone, so training resumes anywhere without a record of what was
seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from pruning.images import open_image
from pruning.scenes import FAMILIES, render
from pruning.scenes.questions import ask, rephrase
from pruning.text import check_text

FIRST_SCENE = 800_000_000  # scenes from here on were used for nothing else
SHOWN = 5  # bad lines named in one message
FIELDS = ("image", "question", "answer")


@dataclass(frozen=True)
class Record:
    """`name` tells a reader where it comes from; `picture` opens the image, RGB, or raises ValueError."""

    name: str
    question: str
    answer: str
    picture: Callable[[], Image.Image]


class Records(Protocol):
    """Endless: place 0, 1, 2 … of a run."""

    title: str
    size: int | None  # of one epoch; None: no record comes twice

    def at(self, place: int) -> Record: ...


class FileRecords:
    """The records of a JSON Lines file, reshuffled every epoch."""

    def __init__(self, file: Path, images: Path | None = None, seed: int = 0) -> None:
        """Each line is {"image": path, "question": text, "answer": text}; more fields are ignored, as are empty lines.

        images: the folder that the paths start from; None: the file's own.

        Raises:
            ValueError: no records, or bad ones, named by line with what is wrong. Pictures are opened only as far as
                their header.
        """
        self.title, self._seed, folder = str(file), seed, images or file.parent
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} cannot be read as UTF-8 text ({error}): name a JSON Lines file") from error
        self._records: list[Record] = []
        faults: list[str] = []
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    self._records.append(_record(line, folder, f"{file}, line {number}"))
                except ValueError as error:
                    faults.append(f"line {number}: {error}")
        if faults:
            more = f"\n… and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            raise ValueError(f"{file} has {len(faults)} bad records:\n" + "\n".join(faults[:SHOWN]) + more)
        if not self._records:
            raise ValueError(f'{file} holds no records: write one {{"image", "question", "answer"}} to a line')
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
        return Record(f"scene {place}", question.text, question.answer, lambda: Image.fromarray(scene.image))


def _record(line: str, folder: Path, name: str) -> Record:
    try:
        fields: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at character {error.pos + 1})") from error
    if not isinstance(fields, dict):
        raise ValueError(f"it is not an object with the fields {', '.join(FIELDS)}")
    for field in FIELDS:
        value = fields.get(field)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"the field {field!r} must be a text that is not empty, not {value!r}")
        check_text(f"the field {field!r}", value)
    path = folder / fields["image"]
    if not path.is_file():
        raise ValueError(f"the image {path} does not exist: correct the path, or name its folder with --images")
    try:
        with Image.open(path):
            pass
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image {path} cannot be opened ({error})") from error
    return Record(name, fields["question"], fields["answer"], lambda: open_image(path))
