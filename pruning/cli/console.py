"""What a command writes, on any console: characters that it lacks are spelt out, and a closed pipe is no error.

On Windows a pipe takes cp1252, elsewhere a console may be plain ASCII. λ is then written "lambda", é as e.
"""

from __future__ import annotations

import codecs
import functools
import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
HANDLER = "idpruner-spelt-out"
STRICT = ("strict", "surrogateescape", "backslashreplace")  # Python's own choices; any other is the user's, and stays
READER_GONE = 141  # what a shell calls a program that a closed pipe stopped: 128 + SIGPIPE
SIGNS = {
    "→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "·": "*", "×": "x", "≠": "!=", "≤": "<=", "≥": ">=", "±": "+-",
    "√": "sqrt", "“": '"', "”": '"', "‘": "'", "’": "'",
}  # fmt: skip


def command(main: Callable[P, R]) -> Callable[P, R]:
    """Decorates a program's main function: all that it writes fits its streams, and is written when it returns.

    Exits with 141, silently, where nobody reads its output any more (`| head`), and with 1 and a message where the
    output cannot be written, as on a full disk.
    """

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        fit_streams()
        try:
            try:
                result = main(*args, **kwargs)
            except SystemExit:  # argparse has written its help or its message
                _flush()
                raise
            _flush()
        except BrokenPipeError:
            _silence()
            sys.exit(READER_GONE)
        return result

    return run


def fit_streams() -> None:
    """Let both standard streams spell out what their encoding lacks; one that is closed takes all."""
    codecs.register_error(HANDLER, _spelt_out)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (it lives as long as the process)
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in STRICT:
            stream.reconfigure(errors=HANDLER)


def program(script: str, otherwise: str) -> str:
    """The program's name as the user called it: that of the installed script, or what stands for it in a checkout."""
    return script if Path(sys.argv[0]).name.removesuffix(".exe") == script else otherwise


def as_json(value: Any, indent: int | None = None) -> str:
    """The value as JSON, on one line unless indented; nothing is lost: what standard output lacks is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def ascii_of(character: str) -> str:
    """How it is spelt in ASCII: Greek letters by name, signs as programmers write them, "?" where nobody can say."""
    if character in SIGNS:
        return SIGNS[character]
    words = unicodedata.name(character, "").split()
    if words[:1] == ["GREEK"] and words[2:3] == ["LETTER"]:
        name = words[3].replace("LAMDA", "LAMBDA")
        return name.capitalize() if words[1] == "CAPITAL" else name.lower()
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def _spelt_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(ascii_of, error.object[error.start : error.end])), error.end


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            _silence()
            with suppress(OSError):
                sys.stderr.write(f"error: the output cannot be written: {error.strerror}\n")
            sys.exit(1)


def _silence() -> None:
    """Streams that cannot be written to any more lead nowhere, so that Python's own last flush finds no fault."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
