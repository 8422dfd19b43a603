"""The view "Does it pay?": where its components stand, and its events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.model_pool.pool import Models
from app.model_pool.work import Kind, stream_work
from app.pays import views as pays_views
from app.pays.run import Step, run
from app.session import Session
from app.web.controls import Present
from app.web.errors import owner, report_errors
from app.web.events import AT_ONCE, QUIET, STOPS, STREAMED, html
from app.web.streams import Shown

PAYS = Kind("pays", lambda r: r.timing)
TIPS = {
    "tab Does it pay?": "What pruning saves on this machine, at one and at many requests",
    "#pays-run": "Time what Explore shows now against all tokens and a smaller picture, on this machine",
    "#pays-stop": STOPS,
}


@dataclass(frozen=True)
class PaysPage:
    run: gr.Button
    stop: gr.Button
    progress: gr.HTML
    result: gr.HTML


def place_pays(views: gr.Tabs) -> PaysPage:
    """The tab with all of it, after those that `views` has."""
    small: dict[str, Any] = {"size": "sm", "min_width": 0}
    with views, gr.Tab("Does it pay?", id="pays"), gr.Column(elem_id="pays"):
        with gr.Row(elem_classes="view-tools"):
            start = gr.Button("Measure present setting", variant="primary", **small, elem_id="pays-run")
            stop = gr.Button("Stop", **small, elem_id="pays-stop")
        progress, result = html(pays_views.progress(None), "pays-progress"), html("", "pays-result")
    return PaysPage(start, stop, progress, result)


def wire_pays(page: PaysPage, models: Models, present: Present, inputs: list[Any]) -> None:
    """inputs: the components that `present` reads, the session before them."""
    events = PaysEvents(models, present)
    # In this order: a stop that comes late must not reach the run that follows.
    stopped = page.run.click(events.stop, None, None, **AT_ONCE, **QUIET)
    stopped.then(events.run, inputs, [page.progress, page.result], **STREAMED, **QUIET)
    page.stop.click(events.stop, None, None, **AT_ONCE, **QUIET)


class PaysEvents:
    """Bound to one page's models; `present` gives the setting that its controls say."""

    def __init__(self, models: Models, present: Present) -> None:
        self.models, self.present = models, present

    @report_errors
    def run(self, request: gr.Request, session: Session, *settings: Any) -> Iterator[tuple[Any, Any]]:
        """Measure; what is there when it is stopped or fails stays."""
        last: Step | None = None

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[tuple[Any, Any]]:
            nonlocal last
            for last in run(engine, session, self.present(capabilities, session, settings), task):
                yield pays_views.progress(last), pays_views.result(last.result)

        shown = Shown(
            waiting=lambda place: (pays_views.progress(last, place), gr.skip()),
            stopped=lambda: (pays_views.progress(last, stopped=True), gr.skip()),
            failed=lambda problem: (pays_views.progress(last, problem=problem), gr.skip()),
        )
        yield from stream_work(self.models, owner(request), session.model_name, PAYS, work, shown)

    def stop(self, request: gr.Request) -> None:
        """Stop the measurement; what it knows stays."""
        self.models.resources.tasks.stop(owner(request), PAYS.name)
