"""The view "Training": where its components stand, and its events."""

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
from app.session import Session
from app.training import views as training_views
from app.training.runs import Trainings
from app.training.sample import PLACES, sample
from app.web.errors import owner, report_errors
from app.web.events import AT_ONCE, LIGHT_WORK, QUIET, STREAMED, chosen, html
from app.web.streams import Shown
from app.web.updates import Updates

EVERY = 5.0  # seconds between two looks at a run that is at work
SAMPLE = Kind("training", lambda r: r.drawing)
# Of what a look is asked with, the run's name goes where nobody sees the view.
IN_SIGHT = (
    "(visitor, run, ...more) => [visitor, document.querySelector('#training')?.checkVisibility() ? run : null, ...more]"
)
TIPS = {
    "tab Training": "Curves of training runs, and what their modules keep as they learn",
    "#training-run": "Which training run is shown: its folder, its method, how it stands",
    "#training-place": "A drawn picture with its question that the run does not train on",
    "#training-at": "How the module stood then, at the last checkpoint that is kept before: see it learn",
    "#training-retention": "Share of the visual tokens that each keeps of the picture",
}


@dataclass(frozen=True)
class TrainingPage:
    tab: gr.Tab
    timer: gr.Timer
    run: gr.Dropdown
    place: gr.Slider
    at: gr.Slider
    retention: gr.Slider
    status: gr.HTML
    curves: gr.HTML
    sample: gr.HTML
    seen: gr.State  # (lines of the menu, name, curve, kept steps) that the page shows
    drawn: gr.State  # (name, step, model) whose sample is to be shown


def place_training(views: gr.Tabs, trainings: Trainings) -> TrainingPage:
    """The tab with all of it, after those that `views` has; hidden while there is no run."""
    made: dict[str, Any] = {}
    shown = bool(trainings.names())
    with views, gr.Tab("Training", id="training", visible=shown) as made["tab"], gr.Column(elem_id="training"):
        made["timer"], made["seen"] = gr.Timer(EVERY, active=False), gr.State(None)
        made["drawn"] = gr.State(None)
        with gr.Row(elem_classes="view-tools"):
            made["run"] = gr.Dropdown([], label="Run", show_label=False, visible=False, elem_id="training-run")
            made["place"] = gr.Slider(
                1, PLACES, 1, step=1, label="Held-out picture", visible=False, elem_id="training-place"
            )
            made["at"] = gr.Slider(0, 1, 0, step=1, label="After steps", visible=False, elem_id="training-at")
            made["retention"] = gr.Slider(
                0.02, 1, 0.2, step=0.01, label="Retention", visible=False, elem_id="training-retention"
            )
        made["status"] = html(training_views.status(None), "training-status")
        made["curves"], made["sample"] = html("", "training-curves"), html("", "training-sample")
    return TrainingPage(**made)


def wire_training(page: TrainingPage, trainings: Trainings, models: Models, session: gr.State, demo: gr.Blocks) -> None:
    events = TrainingEvents(page, trainings, models)
    demo.load(events.opened, None, page.tab, **AT_ONCE, **QUIET)
    asked = [session, page.run, page.seen, page.at]
    shown = [
        page.run,
        page.place,
        page.at,
        page.retention,
        page.status,
        page.curves,
        page.sample,
        page.timer,
        page.seen,
        page.drawn,
    ]
    for event in (page.tab.select, chosen(page.run)):
        event(events.show, asked, shown, **LIGHT_WORK, **QUIET)
    page.timer.tick(events.look, asked, shown, js=IN_SIGHT, **LIGHT_WORK, **QUIET)
    wanted = [session, page.run, page.place, page.retention, page.at]
    moved = (page.drawn.change, page.place.release, page.retention.release, page.at.release)
    for event in moved:
        event(events.sample, wanted, page.sample, **STREAMED, **QUIET)


class TrainingEvents:
    """The event functions, bound to the view's components: each tells which of them it changes, and to what."""

    def __init__(self, page: TrainingPage, trainings: Trainings, models: Models) -> None:
        self.page, self.trainings, self.models = page, trainings, models

    def opened(self) -> Any:
        """The tab is there where a run is."""
        return gr.update(visible=bool(self.trainings.names()))

    @report_errors
    def look(self, request: gr.Request, session: Session, name: str | None, seen: Any, at: float) -> Updates:
        """As `show`; without a name the view is out of sight, and nobody looks again until its tab is chosen."""
        return self.show(request, session, name, seen, at) if name else {self.page.timer: gr.Timer(active=False)}

    @report_errors
    def show(self, request: gr.Request, session: Session, name: str | None, seen: Any = None, at: float = 0) -> Updates:
        """The run that is chosen as it stands now, the newest one where none is. What did not change stays as it is; a
        visitor who looks at the last checkpoint goes along with the run.
        """
        page, names = self.page, self.trainings.names()
        gone = "" if not name or name in names else f"The training run {name!r} is not there any more"
        name = name if name in names else next(iter(names), None)
        if name is None:
            hidden = gr.update(visible=False)
            return {page.run: gr.update(choices=[], value=None, visible=False), page.timer: gr.Timer(active=False),
                    page.place: hidden, page.at: hidden, page.retention: hidden,
                    page.status: training_views.status(None, gone), page.curves: "", page.sample: "",
                    page.seen: None, page.drawn: None}  # fmt: skip
        listed = [self.trainings.listed(each) for each in names]
        run = next(each for each in listed if each.name == name)
        menu = [(training_views.line(each), each.name) for each in listed]
        now = (menu, name, run.curve, run.modules)
        changed = {
            page.status: training_views.status(run, gone),
            page.timer: gr.Timer(active=run.state == "running"),
            page.seen: now,
            page.drawn: (name, run.curve.step, session.model_name),
        }
        if seen is None or now[:2] != tuple(seen[:2]):
            changed[page.run] = gr.update(choices=menu, value=name, visible=True)
            changed[page.place] = changed[page.retention] = gr.update(visible=True)
        if seen is None or (name, run.modules) != (seen[1], seen[3]):
            stays = seen is not None and name == seen[1] and at < max(seen[3], default=0)
            changed[page.at] = _steps(run.modules, at if stays else None)
        if seen is None or now[1:] != tuple(seen[1:]):
            changed[page.curves] = training_views.curves(run)
        return changed

    @report_errors
    def sample(
        self, request: gr.Request, session: Session, name: str | None, place: float, retention: float, at: float
    ) -> Iterator[Updates]:
        """What the module keeps as it was after so many steps; or why that cannot be shown, in its place."""
        page = self.page
        if not name:
            return

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[Updates]:
            try:
                found = sample(engine, self.trainings.run(name), int(place or 0), retention, at or None)
            except ValueError as error:
                yield {page.sample: training_views.sample(None, str(error))}
            else:
                yield {page.sample: training_views.sample(found)}

        shown = Shown(
            waiting=lambda ahead: {page.sample: training_views.sample(None, place=ahead)},
            stopped=lambda: {page.sample: gr.skip()},
            failed=lambda problem: {page.sample: training_views.sample(None, problem)},
        )
        yield from stream_work(self.models, owner(request), session.model_name, SAMPLE, work, shown)


def _steps(modules: tuple[int, ...], at: float | None) -> Any:
    """The slider over the checkpoints whose module is kept. at: where it stands, None: at the last one."""
    if len(modules) < 2:
        return gr.update(minimum=0, maximum=1, value=0, visible=False)
    return gr.update(minimum=modules[0], maximum=modules[-1], value=modules[-1] if at is None else at, visible=True)
