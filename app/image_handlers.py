"""Event functions of the image fields: upload, add, remove, example. New images begin a new conversation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app import markup, views
from app.examples import ANY_IMAGE, EXAMPLES
from app.guard import guarded, owner
from app.models import Models
from app.resources import checked_pictures
from app.session import Session
from app.updates import SUGGESTIONS, scopes, suggestions, talk_buttons
from pruning.debris import is_debris


class ImageHandlers:
    """Bound to one page's models."""

    def __init__(self, models: Models) -> None:
        self.models, self.pictures = models, models.resources.pictures

    @guarded
    def upload(self, request: gr.Request, session: Session, path: str | None, question: str) -> tuple[Any, ...]:
        """A new image in the place of all others. Removing one changes nothing else."""
        if path is None:
            return (gr.skip(),) * (6 + SUGGESTIONS)
        picture, notes = self.pictures.open(path)
        session = Session(session.model, (picture,), _first_turn(question))
        return *self._shown(request, session, notes), *suggestions(ANY_IMAGE)

    @guarded
    def add(self, request: gr.Request, session: Session, paths: Any, question: str) -> tuple[Any, ...]:
        """More images beside those that are there."""
        opened = [self.pictures.open(path) for path in paths or () if not is_debris(Path(path).name)]
        pictures = checked_pictures((*session.pictures, *(picture for picture, _ in opened)))
        session = Session(session.model, pictures, _first_turn(question))
        return self._shown(request, session, [note for _, notes in opened for note in notes])

    @guarded
    def remove(self, request: gr.Request, event: gr.EventData, session: Session, question: str) -> tuple[Any, ...]:
        """One of several images less; the first of the others stands in the large field."""
        place = int((event._data or {}).get("index", -1))
        left = tuple(picture for i, picture in enumerate(session.pictures) if i != place)
        session = Session(session.model, left or session.pictures, _first_turn(question))
        return session.pictures[0].path, *self._shown(request, session, ())

    @guarded
    def example(self, request: gr.Request, event: gr.EventData, session: Session) -> tuple[Any, ...]:
        """A picked example: its image, first question, session, suggestions."""
        chosen = EXAMPLES[int((event._data or {}).get("index", 0)) % len(EXAMPLES)]
        picture, _ = self.pictures.open(chosen.path)
        session = Session(session.model, (picture,), chosen.questions[:1])
        shown = self._shown(request, session, ())
        return chosen.path, chosen.questions[0], *shown, *suggestions(chosen.questions)

    def _shown(self, request: gr.Request, session: Session, notes: Sequence[str]) -> tuple[Any, ...]:
        """Session, note, strip of images, scopes and conversation buttons, for new images that the model can take."""
        with self.models.use(session.model, owner(request)) as (engine, _):
            grids = engine.encoded(session).tokens.grids
        strip = views.strip([self.pictures.thumbnail(picture) for picture in session.pictures])
        return session, markup.notice(" ".join(notes)), strip, scopes(grids), *talk_buttons(session)


def _first_turn(question: str) -> tuple[str, ...]:
    """What is in the question field, asked about other images; nothing where nothing is."""
    return (question.strip(),) if question and question.strip() else ()
