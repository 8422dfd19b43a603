"""A visitor's session and settings, for tests of the app below the page."""

from __future__ import annotations

from app.engine import Engine
from app.session import Session, Setting
from pruning.method import make

QUESTION = "what color is the star?"


def look(engine: Engine, *paths: str, questions: tuple[str, ...] = (QUESTION,)) -> Session:
    """The session of a visitor who asks about these images."""
    pictures = tuple(engine.resources.pictures.open(path)[0] for path in paths)
    return Session("tiny", pictures, questions)


def keep(name: str, retention: float = 0.25, scope: str = "sample", **knobs) -> Setting:
    return Setting(make(name, **knobs), retention, scope)
