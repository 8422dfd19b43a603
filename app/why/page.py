"""The view "Why?": where its components stand, and its events."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.canvas.overlays import overlays, views
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.model_pool.pool import Models
from app.model_pool.work import Kind, stream_work
from app.session import Session
from app.web.controls import Present
from app.web.errors import owner, report_errors
from app.web.events import AT_ONCE, LIGHT_WORK, QUIET, STOPS, STREAMED, html
from app.web.streams import Shown
from app.web.updates import Updates
from app.web.updates import retention as on_slider
from app.why import views as why_views
from app.why.run import Step, on_canvas, run

WHY = Kind("why", lambda r: r.long_work)
WAYS = {"": "As the answers say", "return": "Would bring it back", "need": "Cannot do without"}
TIPS = {
    "tab Why?": "The fewest patches that the answer hangs on, found by measuring",
    "#why-way": "Dropped patches whose return restores the answer with all tokens, or kept ones without which the "
    "answer is lost; by itself the first where pruning changed the answer, else the second",
    "#why-run": "Look for the patches that the answer to the question on Explore hangs on",
    "#why-stop": STOPS,
    "#why-show": "Force these patches on the canvas of Explore, in or out, and answer so",
}


@dataclass(frozen=True)
class WhyPage:
    way: gr.Dropdown
    run: gr.Button
    stop: gr.Button
    show: gr.Button
    progress: gr.HTML
    result: gr.HTML
    found: gr.State  # the last Step, None before one is done


def place_why(views: gr.Tabs) -> WhyPage:
    """The tab with all of it, after those that `views` has."""
    small: dict[str, Any] = {"size": "sm", "min_width": 0}
    with views, gr.Tab("Why?", id="why"), gr.Column(elem_id="why"):
        with gr.Row(elem_classes="view-tools"):
            ways = [(title, way) for way, title in WAYS.items()]
            way = gr.Dropdown(ways, value="", label="Patches", filterable=False, show_label=False, elem_id="why-way",
                              min_width=200)  # fmt: skip
            start = gr.Button("Look for patches", variant="primary", **small, elem_id="why-run")
            stop = gr.Button("Stop", **small, elem_id="why-stop")
            show = gr.Button("Show on canvas", **small, elem_id="why-show", interactive=False)
        progress, result = html(why_views.progress(None), "why-progress"), html("", "why-result", "why")
        found = gr.State(None)
    return WhyPage(way, start, stop, show, progress, result, found)


def wire_why(
    page: WhyPage, shown: Any, models: Models, present: Present, inputs: list[Any], retention: gr.Slider, views: gr.Tabs
) -> Any:
    """shown: the event that follows a press of `page.show`. inputs: the components that `present` reads, the session
    before them. Returns the event after which Explore has what was found: canvas and answer follow it.
    """
    events = WhyEvents(page, models, present, inputs[0], retention, views)
    # In this order: a stop that comes late must not reach the run that follows.
    stopped = page.run.click(events.stop, None, None, **AT_ONCE, **QUIET)
    results = [page.progress, page.result, page.show, page.found]
    stopped.then(events.run, [page.way, *inputs], results, **STREAMED, **QUIET)
    page.stop.click(events.stop, None, None, **AT_ONCE, **QUIET)
    there = [inputs[0], retention, views]
    return shown.then(events.force, [page.found, inputs[0]], there, **LIGHT_WORK, **QUIET)


class WhyEvents:
    """Bound to one page's models and to what it shows of a setting; `present` gives the one that its controls say."""

    def __init__(
        self, page: WhyPage, models: Models, present: Present, session: Any, retention: gr.Slider, views: gr.Tabs
    ) -> None:
        self.page, self.models, self.present = page, models, present
        self.session, self.retention, self.views = session, retention, views

    @report_errors
    def run(self, request: gr.Request, way: Any, session: Session, *settings: Any) -> Iterator[Updates]:
        """Look for them; what is there when it is stopped or fails stays."""
        page = self.page
        if way not in WAYS:
            raise ValueError(f"patches {way!r} cannot be looked for: choose one of {', '.join(WAYS.values())}")
        last: Step | None = None

        def update(step: Step, result: Any) -> Updates:
            over = step.stage in ("done", "stopped") and step.found is not None
            ready = over and step.found.reached and bool(step.found.patches)  # type: ignore[union-attr]
            return {page.progress: why_views.progress(step), page.result: result,
                    page.show: gr.update(interactive=ready), page.found: step if ready else None}  # fmt: skip

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[Updates]:
            nonlocal last
            setting = self.present(capabilities, session, settings)
            drawn: tuple[Any, ...] = ()
            for last in run(engine, session, setting, task, way or None):
                if not drawn and last.full:
                    drawn = views(engine, session, setting), overlays(engine, session, setting, "dimmed")
                yield update(last, why_views.result(last, *drawn))

        def ended(**how: Any) -> Updates:
            return {page.progress: why_views.progress(last, **how)}

        shown = Shown(
            waiting=lambda place: ended(place=place),
            stopped=lambda: ended(stopped=True),
            failed=lambda problem: ended(problem=problem),
        )
        yield from stream_work(self.models, owner(request), session.model_name, WHY, work, shown)

    @report_errors
    def force(self, step: Step | None, session: Session) -> Updates:
        """What was found, forced in or out, at the retention that has room for it, on the view Explore."""
        if step is None:
            raise ValueError("no patches are found yet: press Look for patches")
        share, patches = on_canvas(step)
        patches = replace(patches, news=secrets.token_hex(4))
        return {self.session: replace(session, forced=patches), self.retention: on_slider(share),
                self.views: gr.update(selected="explore")}  # fmt: skip

    def stop(self, request: gr.Request) -> None:
        """Stop the search; what it knows stays."""
        self.models.resources.tasks.stop(owner(request), WHY.name)
