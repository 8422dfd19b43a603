"""Event functions of the image fields: upload, add, remove, example. New images begin a new conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from app.engine.device import DroppedError
from app.engine.resources import checked_pictures
from app.examples import ANY_IMAGE, EXAMPLES
from app.explore import views as explore_views
from app.explore.layout import Page
from app.model_pool.pool import Models
from app.session import Session
from app.web import html
from app.web.errors import owner, report_errors
from app.web.streams import Shown, stream
from app.web.updates import Updates, scopes, suggestions, talk_buttons
from pruning.debris import is_debris

PICTURE = "picture"  # kind of the tasks that take new images in


class ImageHandlers:
    """Bound to one page and its models."""

    def __init__(self, models: Models, page: Page) -> None:
        self.models, self.page, self.pictures = models, page, models.resources.pictures
        self.news = [page.session, page.note, page.strip, page.scope, page.follow_up, page.anew]
        self.news += [page.method, page.curve_methods]

    @report_errors
    def upload(self, request: gr.Request, session: Session, path: str | None, question: str) -> Iterator[Updates]:
        """A new image in the place of all others. Removing one changes nothing else."""

        def work() -> Updates:
            if path is None:
                return {self.page.note: gr.skip()}
            picture, notes = self.pictures.open(path)
            changed = replace(session, pictures=(picture,), questions=_first_turn(question))
            return self._shown(request, changed, notes) | self._suggested(ANY_IMAGE)

        yield from self._taken(request, work)

    @report_errors
    def add(self, request: gr.Request, session: Session, paths: Any, question: str) -> Iterator[Updates]:
        """More images beside those that are there."""

        def work() -> Updates:
            opened = [self.pictures.open(path) for path in paths or () if not is_debris(Path(path).name)]
            pictures = checked_pictures((*session.pictures, *(picture for picture, _ in opened)))
            changed = replace(session, pictures=pictures, questions=_first_turn(question))
            return self._shown(request, changed, [note for _, notes in opened for note in notes])

        yield from self._taken(request, work)

    @report_errors
    def remove(self, request: gr.Request, clicked: Any, session: Session, question: str) -> Iterator[Updates]:
        """One of several images less; the first of the others stands in the large field."""
        place = int((clicked or {}).get("index", -1))
        left = tuple(picture for i, picture in enumerate(session.pictures) if i != place)
        changed = replace(session, pictures=left or session.pictures, questions=_first_turn(question))

        def work() -> Updates:
            return {self.page.image: changed.pictures[0].path} | self._shown(request, changed, ())

        yield from self._taken(request, work)

    @report_errors
    def example(self, request: gr.Request, picked: Any, session: Session) -> Iterator[Updates]:
        """A picked example: its image, first question, session, suggestions."""
        chosen = EXAMPLES[int((picked or {}).get("index", 0)) % len(EXAMPLES)]

        def work() -> Updates:
            picture, _ = self.pictures.open(chosen.path)
            shown = self._shown(request, replace(session, pictures=(picture,), questions=chosen.questions[:1]), ())
            asked = {self.page.image: chosen.path, self.page.question: chosen.questions[0]}
            return asked | shown | self._suggested(chosen.questions)

        yield from self._taken(request, work)

    @report_errors
    def asked_elsewhere(self, request: gr.Request, asked: Any, session: Session) -> Iterator[Updates]:
        """A picture and a question that another view showed, such as a question of a race."""
        path, question, _ = asked

        def work() -> Updates:
            picture, _ = self.pictures.open(path)
            shown = self._shown(request, replace(session, pictures=(picture,), questions=(question,)), ())
            return {self.page.image: path, self.page.question: question} | shown | self._suggested(ANY_IMAGE)

        yield from self._taken(request, work)

    def _taken(self, request: gr.Request, work: Callable[[], Updates]) -> Iterator[Updates]:
        """The updates that `work` gives, when its turn has come. Until then, and where it gives none, the note beside
        the images says so. Raises where there were none: nothing follows.
        """

        def note(words: str, kind: str = "info") -> Updates:
            return {self.page.note: html.notice(words, kind)}

        taken = False

        def works() -> Iterator[Updates]:
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

    def _shown(self, request: gr.Request, session: Session, notes: Sequence[str]) -> Updates:
        """Session, note, strip of images, scopes, conversation buttons and menus of methods, for new images that the
        model can take.
        """
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            grids, menu = engine.encoded(session).tokens.grids, capabilities.menu(len(session.pictures))
        strip = explore_views.strip([self.pictures.thumbnail(picture) for picture in session.pictures])
        new = (
            session,
            html.notice(" ".join(notes)),
            strip,
            scopes(grids),
            *talk_buttons(session),
            *[gr.update(choices=menu)] * 2,
        )
        return dict(zip(self.news, new, strict=True))

    def _suggested(self, questions: Sequence[str]) -> Updates:
        return dict(zip(self.page.suggestions, suggestions(questions), strict=True))


def _first_turn(question: str) -> tuple[str, ...]:
    """What is in the question field, asked about other images; nothing where nothing is."""
    return (question.strip(),) if question and question.strip() else ()
