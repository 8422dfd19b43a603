"""Event functions of the image fields: upload, add, remove, example. New images begin a new conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app.engine.device import DroppedError
from app.engine.resources import checked_pictures
from app.examples import ANY_IMAGE, EXAMPLES
from app.explore import views as explore_views
from app.model_pool.pool import Models
from app.session import Session
from app.web import html
from app.web.errors import owner, report_errors
from app.web.streams import Shown, stream
from app.web.updates import SUGGESTIONS, scopes, suggestions, talk_buttons
from pruning.debris import is_debris

PICTURE = "picture"  # kind of the tasks that take new images in
Update = tuple[Any, ...]


class ImageHandlers:
    """Bound to one page's models."""

    def __init__(self, models: Models) -> None:
        self.models, self.pictures = models, models.resources.pictures

    @report_errors
    def upload(self, request: gr.Request, session: Session, path: str | None, question: str) -> Iterator[Update]:
        """A new image in the place of all others. Removing one changes nothing else."""

        def work() -> Update:
            if path is None:
                return (gr.skip(),) * (6 + SUGGESTIONS)
            picture, notes = self.pictures.open(path)
            changed = Session(session.model_name, (picture,), _first_turn(question))
            return *self._shown(request, changed, notes), *suggestions(ANY_IMAGE)

        yield from self._taken(request, work, before=1, after=4 + SUGGESTIONS)

    @report_errors
    def add(self, request: gr.Request, session: Session, paths: Any, question: str) -> Iterator[Update]:
        """More images beside those that are there."""

        def work() -> Update:
            opened = [self.pictures.open(path) for path in paths or () if not is_debris(Path(path).name)]
            pictures = checked_pictures((*session.pictures, *(picture for picture, _ in opened)))
            changed = Session(session.model_name, pictures, _first_turn(question))
            return self._shown(request, changed, [note for _, notes in opened for note in notes])

        yield from self._taken(request, work, before=1, after=4)

    @report_errors
    def remove(self, request: gr.Request, clicked: Any, session: Session, question: str) -> Iterator[Update]:
        """One of several images less; the first of the others stands in the large field."""
        place = int((clicked or {}).get("index", -1))
        left = tuple(picture for i, picture in enumerate(session.pictures) if i != place)
        changed = Session(session.model_name, left or session.pictures, _first_turn(question))

        def work() -> Update:
            return changed.pictures[0].path, *self._shown(request, changed, ())

        yield from self._taken(request, work, before=2, after=4)

    @report_errors
    def example(self, request: gr.Request, picked: Any, session: Session) -> Iterator[Update]:
        """A picked example: its image, first question, session, suggestions."""
        chosen = EXAMPLES[int((picked or {}).get("index", 0)) % len(EXAMPLES)]

        def work() -> Update:
            picture, _ = self.pictures.open(chosen.path)
            shown = self._shown(request, Session(session.model_name, (picture,), chosen.questions[:1]), ())
            return chosen.path, chosen.questions[0], *shown, *suggestions(chosen.questions)

        yield from self._taken(request, work, before=3, after=4 + SUGGESTIONS)

    def _taken(self, request: gr.Request, work: Callable[[], Update], before: int, after: int) -> Iterator[Update]:
        """The update that `work` gives, when its turn has come. Until then, and where it gives none, the note among the
        outputs says so: `before` of them stand before it, `after` behind. Raises where there was none: nothing follows.
        """

        def note(words: str, kind: str = "info") -> Update:
            return (*(gr.skip(),) * before, html.notice(words, kind), *(gr.skip(),) * after)

        taken = False

        def works() -> Iterator[Update]:
            nonlocal taken
            update = work()
            taken = True
            yield update

        shown = Shown(
            waiting=lambda place: note(html.waiting(place)),
            stopped=lambda: note("Stopped: the images are the ones before", "warn"),
            failed=lambda problem: note(problem, "warn"),
        )
        resources = self.models.resources
        task = resources.tasks.begin(owner(request), PICTURE)
        yield from stream(task, resources.uploads, works, shown)
        if not taken:
            raise DroppedError

    def _shown(self, request: gr.Request, session: Session, notes: Sequence[str]) -> tuple[Any, ...]:
        """Session, note, strip of images, scopes and conversation buttons, for new images that the model can take."""
        with self.models.use(session.model_name, owner(request)) as (engine, _):
            grids = engine.encoded(session).tokens.grids
        strip = explore_views.strip([self.pictures.thumbnail(picture) for picture in session.pictures])
        return session, html.notice(" ".join(notes)), strip, scopes(grids), *talk_buttons(session)


def _first_turn(question: str) -> tuple[str, ...]:
    """What is in the question field, asked about other images; nothing where nothing is."""
    return (question.strip(),) if question and question.strip() else ()
