"""Event functions of the image fields: upload, add, remove, example; which frames are taken of clips. New images begin
a new conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from app.engine.device import DroppedError
from app.engine.resources import USUAL, Opened, checked_pictures
from app.examples import ANY_IMAGE, EXAMPLES
from app.explore import views as explore_views
from app.explore.layout import Page
from app.model_pool.pool import Models
from app.session import Session
from app.web import html
from app.web.errors import owner, report_errors
from app.web.events import Told
from app.web.streams import Shown, stream
from app.web.updates import Updates, scopes, suggestions, talk_buttons
from pruning.debris import is_debris
from pruning.video import Progress, Sampling

PICTURE = "picture"  # kind of the tasks that take new images in


class ImageHandlers:
    """Bound to one page and its models."""

    def __init__(self, models: Models, page: Page) -> None:
        self.models, self.page, self.pictures = models, page, models.resources.pictures
        self.news = [page.session, page.note, page.strip, page.scope, page.follow_up, page.anew]
        self.news += [page.method, page.curve_methods, page.taking]

    @report_errors
    def upload(
        self, request: gr.Request, session: Session, path: str | None, question: str, *taken: Any
    ) -> Iterator[Updates]:
        """A new image or clip in the place of all others. Removing one changes nothing else."""

        def work() -> Iterator[Updates]:
            if path is None:
                yield {self.page.session: session}
                return
            ((picture, notes),) = yield from self._read(request, session, [path], taken)
            changed = replace(session, pictures=(picture,), questions=_first_turn(question))
            field = {self.page.image: self.pictures.shown(picture)} if picture.film else {}
            yield field | self._shown(request, changed, notes) | self._suggested(ANY_IMAGE)

        yield from self._taken(request, work)

    @report_errors
    def put(self, request: gr.Request, session: Session, paths: Any, question: str, *taken: Any) -> Iterator[Updates]:
        """`upload` of a file that the image field does not take."""
        yield from self.upload(request, session, next(iter(paths or ()), None), question, *taken)

    @report_errors
    def add(self, request: gr.Request, session: Session, paths: Any, question: str, *taken: Any) -> Iterator[Updates]:
        """More images and clips beside those that are there."""

        def work() -> Iterator[Updates]:
            files = [path for path in paths or () if not is_debris(Path(path).name)]
            opened = yield from self._read(request, session, files, taken)
            pictures = checked_pictures((*session.pictures, *(picture for picture, _ in opened)))
            changed = replace(session, pictures=pictures, questions=_first_turn(question))
            first = pictures[:1] == session.pictures[:1]
            field = {} if first else {self.page.image: self.pictures.shown(pictures[0])}
            yield field | self._shown(request, changed, [note for _, notes in opened for note in notes])

        yield from self._taken(request, work)

    @report_errors
    def sample(self, request: gr.Request, session: Session, question: str, *taken: Any) -> Iterator[Updates]:
        """Other frames of the clips that are there."""

        def work() -> Iterator[Updates]:
            sampling = _sampling(taken)
            if all(film.sampling == sampling for film in session.films):
                yield {self.page.session: session}
                return
            clips = [picture.path for picture in session.pictures if picture.film]
            opened = yield from self._read(request, session, clips, taken)
            stills = [picture for picture in session.pictures if not picture.film]
            pictures = checked_pictures((*stills, *(picture for picture, _ in opened)))
            changed = replace(session, pictures=pictures, questions=_first_turn(question))
            yield self._shown(request, changed, [note for _, notes in opened for note in notes])

        yield from self._taken(request, work)

    @report_errors
    def remove(self, request: gr.Request, clicked: Told, session: Session, question: str) -> Iterator[Updates]:
        """One of several images less; the first of the others stands in the large field."""
        place = int(clicked.data.get("index", -1))
        left = tuple(picture for i, picture in enumerate(session.pictures) if i != place)
        changed = replace(session, pictures=left or session.pictures, questions=_first_turn(question))

        def work() -> Iterator[Updates]:
            yield {self.page.image: self.pictures.shown(changed.pictures[0])} | self._shown(request, changed, ())

        yield from self._taken(request, work)

    @report_errors
    def example(self, request: gr.Request, picked: Told, session: Session, *taken: Any) -> Iterator[Updates]:
        """A picked example: its image or clip, first question, session, suggestions."""
        chosen = EXAMPLES[int(picked.data.get("index", 0)) % len(EXAMPLES)]

        def work() -> Iterator[Updates]:
            ((picture, notes),) = yield from self._read(request, session, [chosen.path], taken)
            changed = replace(session, pictures=(picture,), questions=chosen.questions[:1])
            shown = self._shown(request, changed, notes if picture.film else ())
            asked = {self.page.image: self.pictures.shown(picture), self.page.question: chosen.questions[0]}
            yield asked | shown | self._suggested(chosen.questions)

        yield from self._taken(request, work)

    @report_errors
    def asked_elsewhere(self, request: gr.Request, asked: Any, session: Session) -> Iterator[Updates]:
        """A picture or clip and a question that another view showed, such as a question of a race."""
        path, question, _, frames = asked

        def work() -> Iterator[Updates]:
            with self.models.use(session.model_name, owner(request)) as (engine, _):
                taken = engine.vlm.sampling.but(*frames)
            ((picture, notes),) = yield from self._read(request, session, [path], (taken.rate, taken.frames))
            changed = replace(session, pictures=(picture,), questions=(question,))
            shown = self._shown(request, changed, notes if picture.film else ())
            image = self.pictures.shown(picture) if picture.film else path
            sliders = zip(self.page.taken, (taken.rate, taken.frames), strict=True)
            at = {slider: min(max(value, slider.minimum), slider.maximum) for slider, value in sliders}
            asks = {self.page.image: image, self.page.question: question}
            yield asks | shown | self._suggested(ANY_IMAGE) | (at if picture.film else {})

        yield from self._taken(request, work)

    def _read(
        self, request: gr.Request, session: Session, paths: Sequence[str], taken: Sequence[Any]
    ) -> Generator[Updates, None, list[Opened]]:
        """The files, opened as the present model takes them; on the way how far the reading of a clip is.

        taken: of a clip frames of each second, and the most in all.
        """
        with self.models.use(session.model_name, owner(request)) as (engine, _):
            no_clips = engine.vlm.no_clips
        opened = []
        for path in paths:
            for found in self.pictures.read(path, _sampling(taken), no_clips):
                if isinstance(found, Progress):
                    yield {self.page.note: explore_views.reading(found)}
                else:
                    opened.append(found)
        return opened

    def _taken(self, request: gr.Request, work: Callable[[], Iterator[Updates]]) -> Iterator[Updates]:
        """The updates that `work` gives, when its turn has come. Until then, and where it gives none, the note beside
        the images says so. Raises where it came to no end: nothing follows.
        """

        def note(words: str, kind: str = "info") -> Updates:
            return {self.page.note: html.notice(words, kind)}

        taken = False

        def works() -> Iterator[Updates]:
            nonlocal taken
            for update in work():
                taken = self.page.session in update
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
            grids = engine.encoded(session).tokens.grids
            menu = capabilities.menu(len(session.pictures), bool(session.films))
        strip = explore_views.strip([self.pictures.thumbnail(picture) for picture in session.pictures])
        new = (
            session,
            html.notice(" ".join(notes)),
            strip,
            scopes(grids),
            *talk_buttons(session),
            *[gr.update(choices=menu)] * 2,
            gr.update(visible=bool(session.films)),
        )
        return dict(zip(self.news, new, strict=True))

    def _suggested(self, questions: Sequence[str]) -> Updates:
        return dict(zip(self.page.suggestions, suggestions(questions), strict=True))


def _first_turn(question: str) -> tuple[str, ...]:
    """What is in the question field, asked about other images; nothing where nothing is."""
    return (question.strip(),) if question and question.strip() else ()


def _sampling(taken: Sequence[Any]) -> Sampling:
    """What the controls say of clips. Raises ValueError for a rate or number that is none."""
    if not taken:
        return USUAL
    rate, frames = taken
    return Sampling(rate, int(frames) if isinstance(frames, float) and frames.is_integer() else frames)
