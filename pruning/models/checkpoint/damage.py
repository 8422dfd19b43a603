"""What of a checkpoint cannot be read, in words: the file at fault, what is wrong with it, and by which versions.

Libraries raise whatever they like here, bare exceptions of compiled code among them. Which file it was is found out
afterwards, so that a healthy checkpoint is read once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pruning.models.values import ModelError

CONFIG = ("config.json",)
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt",
)  # fmt: skip
IMAGES = ("preprocessor_config.json", "processor_config.json")
CLIPS = ("video_preprocessor_config.json", "processor_config.json", "preprocessor_config.json")
PROCESSOR = ("processor_config.json", "chat_template.jinja", "chat_template.json")
GENERATION = ("generation_config.json",)
LIBRARIES = ("transformers", "tokenizers")
LONGEST = 200  # characters of a library's own words


@contextmanager
def reading(source: Path | str, what: str, files: Sequence[str]) -> Iterator[None]:
    """While open, whatever a library raises over a part of a checkpoint becomes a ModelError that names the file.

    what: the part, for a reader. files: those it is read from. Missing packages and memory are others' to word.
    """
    try:
        yield
    except (ModelError, ImportError, MemoryError):
        raise
    except BaseException as error:
        if not _told(error):
            raise
        raise unreadable(source, what, error, files) from error


def unreadable(source: Path | str, what: str, error: BaseException, files: Sequence[str] = ()) -> ModelError:
    """The message for a part of a checkpoint that is there but cannot be read; files: those it may be in."""
    there = [Path(source) / name for name in files if (Path(source) / name).is_file()]
    reason = (" ".join(str(error).split()) or type(error).__name__)[:LONGEST]
    if isinstance(error, KeyError):
        reason = f"it has no entry {reason}"
    remedy = "Copy or download the checkpoint again."
    broken = next(((file.name, fault) for file in there if (fault := _fault(file))), None)
    if broken:
        named, reason = broken
    else:
        named = " or ".join(file.name for file in _suspects(there))
    if files:
        versions = " and ".join(f"{library} {version(library)}" for library in LIBRARIES)
        reason += f"; read by {versions}{_saved_by(Path(source))}"
    if files and not broken:
        remedy = f"If it is for newer ones, `pip install --upgrade {' '.join(LIBRARIES)}`; else download it again."
    return ModelError(f"{source}: {f'{named}, {what},' if named else what} cannot be read ({reason}). {remedy}")


def sides(shape: Sequence[int]) -> str:
    """A tensor's sides as people write them: "68×48"."""
    return "×".join(map(str, shape)) or "one number"


def _fault(file: Path) -> str:
    """What is wrong with a text file as such: no UTF-8, no JSON, no object; "" where that is all right."""
    try:
        text = file.read_text(encoding="utf-8")
        held = json.loads(text) if file.suffix == ".json" else {}
    except (OSError, ValueError, RecursionError) as error:
        return str(error).splitlines()[0][:LONGEST]
    return "" if isinstance(held, dict) else f"it holds {json.dumps(held)[:20]}, and no object {{…}}"


def _suspects(files: Sequence[Path]) -> Sequence[Path]:
    """Which of well-formed files it can have been: of a tokenizer's, its own or the others, as its library says."""
    from tokenizers import Tokenizer

    own = [file for file in files if file.name == TOKENIZER[0]]
    try:
        for file in own:
            Tokenizer.from_file(str(file))
    except BaseException as error:
        if not _told(error):
            raise
        return own
    return [file for file in files if file not in own] or own


def _told(error: BaseException) -> bool:
    """Whether it says what is wrong with a file; what panics in Rust is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _saved_by(folder: Path) -> str:
    """ ", saved by 5.30.0", of the model library, where a checkpoint says so and it is not the version here."""
    try:
        held: Any = json.loads((folder / CONFIG[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    saved = held.get("transformers_version") if isinstance(held, dict) else None
    return f", saved by {LIBRARIES[0]} {saved}" if saved and saved != version(LIBRARIES[0]) else ""
