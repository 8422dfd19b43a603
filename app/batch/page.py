"""The view "Many images": where its components stand, and its events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.batch import run as batch_run
from app.batch import views as batch_views
from app.canvas import overlays
from app.canvas.state import fitting
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.model_pool.pool import Models
from app.model_pool.work import Kind, stream_work
from app.session import Session, Setting
from app.web.controls import Present
from app.web.errors import owner, report_errors
from app.web.events import AT_ONCE, QUIET, STOPS, STREAMED, html
from app.web.gradio_patches import files_input
from app.web.streams import Shown
from app.web.updates import Updates
from pruning.drawing import overlays as draw

SIDE = 384  # longest side of an overlay, pixels
BATCH = Kind("batch", lambda r: r.long_work)
TIPS = {
    "tab Many images": "One setting on several images",
    "#batch-files button": "Choose the images, or drop them here",
    "#batch-run": "Ask the present question about every image, with what Explore shows now",
    "#batch-stop": STOPS,
}


@dataclass(frozen=True)
class BatchPage:
    files: gr.File
    run: gr.Button
    stop: gr.Button
    about: gr.HTML
    progress: gr.HTML
    totals: gr.HTML
    cards: list[gr.HTML]


def place_batch(views: gr.Tabs) -> BatchPage:
    """The tab with all of it, after those that `views` has."""
    small: dict[str, Any] = {"size": "sm", "min_width": 0}
    with views, gr.Tab("Many images", id="batch"), gr.Column(elem_id="batch"):
        files = files_input(label=f"Images, up to {batch_run.MOST}", height=150, elem_id="batch-files")
        with gr.Row(elem_classes="view-tools"):
            run = gr.Button("Run present setting on all", variant="primary", **small, elem_id="batch-run")
            stop = gr.Button("Stop", **small, elem_id="batch-stop")
        about, progress = html("", "batch-about"), html(batch_views.progress(None), "batch-progress")
        totals = html("", "batch-totals")
        with gr.Row(elem_id="batch-cards"):
            cards = [html("", f"batch-card-{place}") for place in range(batch_run.MOST)]
    return BatchPage(files, run, stop, about, progress, totals, cards)


def wire_batch(page: BatchPage, models: Models, present: Present, inputs: list[Any]) -> None:
    """inputs: the components that `present` reads, the session before them."""
    events = BatchEvents(page, models, present)
    shown = [page.about, page.progress, page.totals, *page.cards]
    # In this order: a stop that comes late must not reach the run that follows.
    stopped = page.run.click(events.stop, None, None, **AT_ONCE, **QUIET)
    stopped.then(events.run, [page.files, *inputs], shown, **STREAMED, **QUIET)
    page.stop.click(events.stop, None, None, **AT_ONCE, **QUIET)


class BatchEvents:
    """The event functions, bound to the view's components: each tells which of them it changes, and to what."""

    def __init__(self, page: BatchPage, models: Models, present: Present) -> None:
        self.page, self.models, self.present = page, models, present

    @report_errors
    def run(self, request: gr.Request, paths: list[str], session: Session, *settings: Any) -> Iterator[Updates]:
        """Ask the present question about every image, under the present setting."""
        pictures, page = self.models.resources.pictures, self.page
        last: batch_run.Batch | None = None
        skipped: Sequence[batch_run.Skipped] = ()
        shots: dict[int, overlays.Overlay | None] = {}

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[Updates]:
            nonlocal last, skipped
            setting = self.present(capabilities, session, settings)
            items, skipped = batch_run.opened(pictures, paths, session, engine.vlm.no_clips)
            cleared = {card: "" for card in page.cards}
            yield {page.about: batch_views.about(session, setting), page.totals: "", **cleared}
            for last in batch_run.run(engine, items, setting, task):
                for place in last.fresh:
                    shots[place] = _painted(engine, last.items[place], setting)
                running = last.stage == "running"
                yield news(last, last.fresh) if running else ended(batch_views.progress(last, skipped))

        def news(step: batch_run.Batch, places: Iterable[int], over: bool = False) -> Updates:
            cards = {page.cards[at]: batch_views.card(step.items[at], shots.get(at), over) for at in places}
            progress, totals = batch_views.progress(step, skipped), batch_views.totals(step.items)
            return {page.progress: progress, **cards, page.totals: totals}

        def ended(progress: str) -> Updates:
            """No card stands as if more came."""
            cut = [] if last is None else [at for at in shots if not last.items[at].over]
            return {**({} if last is None else news(last, cut, over=True)), page.progress: progress}

        shown = Shown(
            waiting=lambda place: {page.progress: batch_views.progress(last, skipped, place)},
            stopped=lambda: ended(batch_views.stopped(last, skipped)),
            failed=lambda problem: ended(batch_views.progress(last, skipped, problem=problem)),
        )
        yield from stream_work(self.models, owner(request), session.model_name, BATCH, work, shown)

    def stop(self, request: gr.Request) -> None:
        """Stop the run; what is there stays."""
        self.models.resources.tasks.stop(owner(request), BATCH.name)


def _painted(engine: Engine, item: batch_run.Item, setting: Setting) -> overlays.Overlay | None:
    if item.problem or not item.n:
        return None
    (painted,) = overlays.overlays(engine, item.session, fitting(item.session, setting), "dimmed")
    return replace(painted, image=draw.fit(painted.image, SIDE)[0])
