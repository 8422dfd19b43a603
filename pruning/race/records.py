"""One record of a data set: a picture, a question about it, its answers, and how what is said is scored.

What is wrong with a record is a `Fault`, told with its row and the remedy; the other rows stay as they are.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pruning.race.metrics import LETTERS, METRICS
from pruning.race.pictures import BytesPicture, Picture, named_picture
from pruning.text import check_text, checked_question

LONGEST: Final = 8_000
"""Characters of a question, its choices included."""
FIELDS: Final = ("image", "question", "answers", "metric", "choices", "id", "group")
OPTION: Final = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Record:
    """One question. row: where it stands in the data set, from 1; id: unique in it. group: what tables split by.

    asked: what the model is asked, the choices of a multiple choice and the suffix included.
    """

    row: int
    id: str
    picture: Picture
    question: str
    answers: tuple[str, ...]
    metric: str
    choices: tuple[str, ...] = ()
    group: str = ""
    suffix: str = ""

    @property
    def asked(self) -> str:
        return asked(self.question, self.choices, self.suffix)

    def score(self, said: str) -> float:
        """0 to 1."""
        return METRICS[self.metric].score(said, self.answers, self.choices)


@dataclass(frozen=True)
class Fault:
    """A row that cannot be asked: why, and what to do."""

    row: int
    id: str
    reason: str


def asked(question: str, choices: Sequence[str], suffix: str = "") -> str:
    """The question as a model is asked it: with the choices of a multiple choice, each behind its letter, and below all
    the suffix; without one, choices ask for a letter.
    """
    options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join(filter(None, [question, *options, suffix or (OPTION if choices else "")]))


def record_of(fields: Mapping[str, Any], row: int, folder: Path, metric: str | None = None) -> Record:
    """A record from the fields of one row of JSON or of a table.

    image: a path or file: URL inside `folder`; or the bytes of a picture file, alone or as {"bytes": …}, in JSON as
    Base64. question: text. answers: a text or several; `answer` is taken as well. metric: one of METRICS, unless the
    data set has one for all. choices: the options of a multiple choice, whose answer may be an index from 0. id: text
    or a whole number, the row's number unless given. group: text.

    Raises ValueError naming the field, the rule and the remedy.
    """
    unknown = sorted(set(fields) - {*FIELDS, "answer"})
    if unknown:
        raise ValueError(f"the field {unknown[0]!r} is not known: name it one of {', '.join(FIELDS)}, or leave it out")
    name = fields.get("metric") or metric
    if not isinstance(name, str) or name not in METRICS:
        what = "no metric" if name is None else f"the metric {name!r} is not known"
        raise ValueError(f"{what}: name one of {', '.join(METRICS)}")
    answers = _texts(fields, "answers") or _texts(fields, "answer")
    if not answers:
        raise ValueError("the answers are empty: give at least one in `answers`")
    choices = _texts(fields, "choices")
    if name == "multiple_choice":
        answers = tuple(_option(answer, choices) for answer in answers)
    if problem := METRICS[name].check(answers, choices):
        raise ValueError(problem)
    question = checked_question(fields.get("question"), LONGEST)
    record = Record(row, _id(fields, row), _picture(fields, folder, row), question, answers, name, choices,
                    _text(fields, "group"))  # fmt: skip
    checked_question(record.asked, LONGEST)
    return record


def _option(answer: str, choices: Sequence[str]) -> str:
    """The letter of an index from 0, unless it is the text of an option."""
    index = int(answer) if answer.isdecimal() and answer not in choices else len(choices)
    return LETTERS[index] if index < min(len(choices), len(LETTERS)) else answer


def _picture(fields: Mapping[str, Any], folder: Path, row: int) -> Picture:
    given = fields.get("image")
    if isinstance(given, Mapping):  # as the data sets of the hub hold pictures: bytes, and their old path
        held = given.get("bytes")
        given = given.get("path") if held is None else _base64(held)
    if isinstance(given, bytes) and given:
        return BytesPicture(given, f"row {row}")
    if isinstance(given, str) and given.strip():
        return named_picture(given, folder)
    raise ValueError("there is no picture: name a file in `image`, or put its bytes there")


def _base64(held: Any) -> bytes:
    if isinstance(held, bytes):
        return held
    try:
        return base64.b64decode(held, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"the bytes of the picture are no Base64 ({error}): encode them anew") from error


def _id(fields: Mapping[str, Any], row: int) -> str:
    given = fields.get("id")
    if given is None or given == "":
        return str(row)
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise ValueError(f"the id {given!r} is neither text nor a whole number: give one of these")
    return check_text("The id", str(given))


def _text(fields: Mapping[str, Any], name: str) -> str:
    given = fields.get(name)
    if given is None:
        return ""
    if not isinstance(given, str):
        raise ValueError(f"`{name}` is {given!r}: give text")
    return check_text(f"`{name}`", given.strip())


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    given = fields.get(name)
    if given is None:
        return ()
    several = [given] if isinstance(given, str | int | float) else given
    if not isinstance(several, Sequence) or isinstance(several, bytes):
        raise ValueError(f"`{name}` is {given!r}: give a text or a list of texts")
    wrong = [each for each in several if isinstance(each, bool) or not isinstance(each, str | int | float)]
    if wrong:
        raise ValueError(f"`{name}` holds {wrong[0]!r}: give texts")
    return tuple(check_text(f"`{name}`", text) for each in several if (text := str(each).strip()))
