"""The view "Compare": where its components stand, and its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.canvas import overlays
from app.canvas.state import fitting
from app.compare import views as compare_views
from app.compare.run import EMPTY, LETTERS, Results, Row, Slots, Step, compare, cut, put, remove, rows, topic
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.model_pool.pool import Models
from app.model_pool.work import Kind, stream_work
from app.session import Forced, Session
from app.web.controls import Present
from app.web.errors import owner, report_errors
from app.web.events import AT_ONCE, LIGHT_WORK, QUIET, STOPS, STREAMED, html
from app.web.streams import Shown
from app.web.updates import Updates
from pruning.choosing import methods_of
from pruning.drawing import overlays as draw

SIDE = 512  # longest side of an overlay, pixels
COMPARE = Kind("compare", lambda r: r.long_work)
TIPS = {
    "tab Compare": "Up to four settings side by side",
    "#add-present": "Put what Explore shows now beside the others",
    "#add-random": "Put a random selection of as many tokens beside the others",
    "#add-uniform": "Put evenly spaced tokens, as many, beside the others",
    "#compare-run": "Work out all settings again",
    "[id^=replace-]": "Put what Explore shows now in the place of this setting",
    "[id^=remove-]": "Take this setting out of the comparison",
    "#compare-stop": STOPS,
}


@dataclass(frozen=True)
class ComparePage:
    """slots: the settings, changed by the visitor alone; results: what is known of them, changed by a run alone."""

    slots: gr.State
    results: gr.State
    add: gr.Button
    random: gr.Button
    uniform: gr.Button
    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    heads: list[gr.HTML]
    bodies: list[gr.HTML]
    tools: list[gr.Row]
    places: list[gr.State]
    replaces: list[gr.Button]
    removes: list[gr.Button]
    table: gr.HTML
    matrix: gr.HTML


def place_compare(views: gr.Tabs) -> ComparePage:
    """The tab with all of it, after those that `views` has."""
    small: dict[str, Any] = {"size": "sm", "min_width": 0}
    heads, bodies, tools, replaces, removes = [], [], [], [], []
    with views, gr.Tab("Compare", id="compare"), gr.Column(elem_id="compare"):
        with gr.Row(elem_classes="view-tools"):
            add = gr.Button("Add present setting", variant="primary", **small, elem_id="add-present")
            random = gr.Button("Add random", **small, elem_id="add-random")
            uniform = gr.Button("Add uniform", **small, elem_id="add-uniform")
            run = gr.Button("Run again", **small, elem_id="compare-run", elem_classes="view-last")
            stop = gr.Button("Stop", **small, elem_id="compare-stop")
        status = html(compare_views.status(None, EMPTY), "compare-status")
        with gr.Row(elem_id="slots", equal_height=False):
            for place, letter in enumerate(LETTERS):
                with gr.Column(elem_classes="slot", min_width=230):
                    heads.append(html(compare_views.head(place, None, ()), f"slot-head-{letter}"))
                    bodies.append(html("", f"slot-body-{letter}"))
                    with gr.Row(elem_classes="slot-tools", visible=False) as tool:
                        replaces.append(gr.Button("Replace by present", **small, elem_id=f"replace-{letter}"))
                        removes.append(gr.Button("Remove", **small, elem_id=f"remove-{letter}"))
                    tools.append(tool)
        table = html("", "compare-table", "sort")
        matrix = html("", "compare-iou")
        # Inside the tab: whatever else stands among tabs, Gradio counts as one of them.
        slots, results, places = (
            gr.State(EMPTY),
            gr.State(Results()),
            [gr.State(place) for place in range(len(LETTERS))],
        )
    return ComparePage(slots, results, add, random, uniform, run, stop, status, heads, bodies,
                       tools, places, replaces, removes, table, matrix)  # fmt: skip


def wire_compare(page: ComparePage, models: Models, present: Present, session: gr.State, inputs: list[Any]) -> None:
    """inputs: the components that `present` reads, the session before them."""
    events = CompareEvents(page, models, present)
    state = [page.slots, page.results]
    shown = [*state, page.status, *page.heads, *page.bodies, *page.tools, page.table, page.matrix]
    adding = [(page.add, events.add), (page.random, events.add_random), (page.uniform, events.add_uniform)]

    def pressed(button: gr.Button) -> Callable[..., Any]:
        """What runs is stopped first, since it would go on with slots that are no more; and in this order: a stop that
        comes late must not reach the run that follows.
        """
        after: Callable[..., Any] = button.click(events.stop, None, None, **AT_ONCE, **QUIET).then
        return after

    changes = [pressed(button)(event, [*state, *inputs], shown, **LIGHT_WORK, **QUIET) for button, event in adding]
    for place, replace_, remove_ in zip(page.places, page.replaces, page.removes, strict=True):
        changes.append(pressed(replace_)(events.replace, [place, *state, *inputs], shown, **LIGHT_WORK, **QUIET))
        changes.append(pressed(remove_)(events.remove, [place, *state, session], shown, **LIGHT_WORK, **QUIET))
    for begin in [*(change.success for change in changes), pressed(page.run)]:
        ran = begin(events.run, [*state, session], shown, **STREAMED, **QUIET)
        ran.then(events.look, [*state, session], page.status, **LIGHT_WORK, **QUIET)
    session.change(events.look, [*state, session], page.status, **LIGHT_WORK, **QUIET)
    page.stop.click(events.stop, None, None, **AT_ONCE, **QUIET)


class CompareEvents:
    """The event functions, bound to the view's components: each tells which of them it changes, and to what."""

    def __init__(self, page: ComparePage, models: Models, present: Present) -> None:
        self.page, self.models, self.present = page, models, present

    @report_errors
    def add(self, request: gr.Request, slots: Slots, results: Results, session: Session, *settings: Any) -> Updates:
        """The setting that stands on the Explore view, in the first empty slot."""
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            slots = put(slots, self.present(capabilities, session, settings))
            return self._shown(engine, capabilities, session, slots, results)

    @report_errors
    def add_random(self, request: gr.Request, slots: Slots, results: Results, session: Session, *s: Any) -> Updates:
        """Random, with as many tokens as the present setting."""
        return self._add_baseline("random", request, slots, results, session, s)

    @report_errors
    def add_uniform(self, request: gr.Request, slots: Slots, results: Results, session: Session, *s: Any) -> Updates:
        """The uniform grid, with as many tokens as the present setting."""
        return self._add_baseline("uniform", request, slots, results, session, s)

    @report_errors
    def replace(
        self, request: gr.Request, place: int, slots: Slots, results: Results, session: Session, *settings: Any
    ) -> Updates:
        """The present setting in the place of another."""
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            slots = put(slots, self.present(capabilities, session, settings), place)
            return self._shown(engine, capabilities, session, slots, results)

    @report_errors
    def remove(self, request: gr.Request, place: int, slots: Slots, results: Results, session: Session) -> Updates:
        """A slot is empty again."""
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            return self._shown(engine, capabilities, session, remove(slots, place), results)

    @report_errors
    def run(self, request: gr.Request, slots: Slots, results: Results, session: Session) -> Iterator[Updates]:
        """Measure what is not known yet, slot by slot."""
        page = self.page
        last: Step | None = None

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[Updates]:
            nonlocal last
            if results.topic != topic(session):
                yield self._shown(engine, capabilities, session, slots, results)
            chosen = [setting for setting in slots if setting is not None]
            for last in compare(engine, capabilities, session, chosen, results, task):
                yield self._progress(session, slots, last)

        def ended(problem: str = "") -> Updates:
            """No slot stands as if more came."""
            if last is None:
                return {page.status: compare_views.status(None, slots, problem=problem, stopped=not problem)}
            step = cut(last, problem)
            status = compare_views.status(step, slots, problem=problem)
            return self._progress(session, slots, step) | {page.status: status}

        shown = Shown(
            waiting=lambda place: {page.status: compare_views.status(last, slots, place=place)},
            stopped=ended,
            failed=ended,
        )
        yield from stream_work(self.models, owner(request), session.model_name, COMPARE, work, shown)

    @report_errors
    def look(self, slots: Slots, results: Results, session: Session) -> Any:
        """Says so where the results are about something else by now."""
        if not any(slots) or results.topic in (None, topic(session)):
            return gr.skip()
        return compare_views.status(None, slots, out_of_date=True)

    def stop(self, request: gr.Request) -> None:
        """Stop the comparison; what is there stays."""
        self.models.resources.tasks.stop(owner(request), COMPARE.name)

    def _add_baseline(
        self, name: str, request: gr.Request, slots: Slots, results: Results, session: Session, settings: Sequence[Any]
    ) -> Updates:
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            here = replace(self.present(capabilities, session, settings), forced=Forced())
            if here.plan is not None:
                here = replace(here, retention=engine.equivalent(session, here), plan=None)
            slots = put(slots, replace(here, method=capabilities.default(capabilities.check(name))))
            return self._shown(engine, capabilities, session, slots, results)

    def _shown(
        self, engine: Engine, capabilities: Capabilities, session: Session, slots: Slots, results: Results
    ) -> Updates:
        """All of the view, with what is known of each slot for the present images and question."""
        page, known = self.page, rows(session, slots, results)
        updates: Updates = {page.slots: slots, page.status: compare_views.status(None, slots)}
        for place, row in enumerate(known):
            updates[page.heads[place]] = compare_views.head(place, row, _painted(engine, capabilities, session, row))
            updates[page.bodies[place]] = compare_views.body(row)
            updates[page.tools[place]] = gr.update(visible=row is not None)
        return updates | self._tables(known)

    def _progress(self, session: Session, slots: Slots, step: Step) -> Updates:
        page, known = self.page, rows(session, slots, step.results)
        updates: Updates = {page.status: compare_views.status(step, slots)}
        if step.setting is None:
            return updates | self._tables(known) | {page.results: step.results}
        row = step.results.of(step.setting) or Row(step.setting)
        updates[page.bodies[slots.index(step.setting)]] = compare_views.body(row)
        if row.problem or (row.report is not None and row.report.stage in ("measuring", "done")):
            updates |= self._tables(known) | {page.results: step.results}
        return updates

    def _tables(self, known: Sequence[Row | None]) -> Updates:
        return {self.page.table: compare_views.table(known), self.page.matrix: compare_views.matrix(known)}


def _painted(engine: Engine, capabilities: Capabilities, session: Session, row: Row | None) -> list[overlays.Overlay]:
    """The overlays of a slot at the size that it has room for; none where the model cannot serve it."""
    if row is None or any(name in capabilities.refused for name in methods_of(row.setting.asked)):
        return []
    try:
        painted = overlays.overlays(engine, session, fitting(session, row.setting), "dimmed")
    except ValueError:  # the run that follows says why
        return []
    return [replace(part, image=draw.fit(part.image, SIDE)[0]) for part in painted]
