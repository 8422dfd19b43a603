"""The presenter: the button that opens it, and its events. What it shows is worked out in `slides`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.explore.handlers import Handlers
from app.explore.layout import Page
from app.model_pool.work import Kind, stream_work
from app.presenter import slides as presenter_slides
from app.session import Session
from app.web import html, scripts, theme
from app.web.errors import owner, report_errors
from app.web.events import AT_ONCE, QUIET, STREAMED, Told
from app.web.streams import Shown
from app.web.templates import render
from pruning.evaluation.plane import RETENTIONS

PRESENT = Kind("presenter", lambda r: r.long_work)


def place_presenter(page: Page) -> gr.HTML:
    """The button among the page's tools; the view itself is built by assets/scripts/presenter.js when it is opened."""
    with page.tools:
        return gr.HTML(
            None,
            html_template=render("presenter.view"),
            js_on_load=scripts.start("presenter"),
            elem_id="presenter",
            apply_default_css=False,
            padding=False,
            exact=None,
            told=None,
            chart=None,
            steps=RETENTIONS,
            colours=theme.painting(),
        )


def wire_presenter(view: gr.HTML, page: Page, handlers: Handlers, inputs: Sequence[Any]) -> None:
    """inputs: the visitor's session, and the page's settings. Every wish of the view first stops what is under way for
    the one before it, and in this order.
    """
    events, said = Presenter(handlers), gr.State(Told())
    turned = view.turn(events.turn, said, None, **AT_ONCE, **QUIET)
    turned.then(events.show, [said, page.curve_methods, *inputs], view, **STREAMED, **QUIET)
    view.leave(events.leave, None, None, **AT_ONCE, **QUIET)


@dataclass(frozen=True)
class Presenter:
    """The event functions; the page's own handlers know its models, and what its controls mean."""

    page: Handlers

    @report_errors
    def turn(self, request: gr.Request, event: gr.EventData, said: Told) -> None:
        """The view wants to see something else."""
        if said.hear(event):
            self.leave(request)

    def show(
        self, request: gr.Request, said: Told, names: Sequence[str], session: Session, *settings: Any
    ) -> Iterator[Any]:
        """Stream the slide's results into the view, which lies over the page's own messages: it tells of errors too."""
        models, asked = self.page.models, presenter_slides.wish(said.data)

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[Any]:
            slide = presenter_slides.slide(models.resources.pictures, session, asked.place, engine.vlm.no_clips)
            setting = self.page.setting(capabilities, slide.session, settings)
            if asked.retention is not None:
                setting = replace(setting, retention=asked.retention)
            for news in presenter_slides.news(engine, capabilities, slide, setting, asked, names, task):
                yield gr.HTML(**news)

        def told(**words: str) -> Any:
            return gr.HTML(told={"turn": asked.turn, **words})

        shown = Shown(
            waiting=lambda place: told(waiting=html.waiting(place)),
            stopped=lambda: told(problem="Stopped"),
            failed=lambda problem: told(problem=problem),
        )
        with suppress(gr.Error):  # the view tells
            yield from stream_work(models, owner(request), session.model_name, PRESENT, work, shown)

    def leave(self, request: gr.Request) -> None:
        """The view was closed, or wants something else: what it has under way ends."""
        self.page.models.resources.tasks.stop(owner(request), PRESENT.name)
