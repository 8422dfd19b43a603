"""What README and docs/ say, for tests that hold them to the code."""

import re
from pathlib import Path

from tests.helpers.checkout import ROOT

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The code blocks of a document in one language, without their fences."""
    return re.findall(rf"```{language}\n(.*?)```", text(name), re.DOTALL)


def block(name: str, language: str, words: str) -> str:
    """The one code block of a document that holds these words."""
    (found,) = (each for each in blocks(name, language) if words in each)
    return found


def names() -> list[str]:
    """Of every document, as `text` takes it."""
    return [path.relative_to(ROOT).as_posix() for path in PAGES]


def links(name: str) -> list[Path]:
    """Where a document's links to files of the project lead, as they stand."""
    folder = (ROOT / name).parent
    return [folder / found for found in re.findall(r"\]\((?!http|#)([^)#]+)", text(name))]
