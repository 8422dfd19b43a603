"""Event functions of question and setting: values of components in, values for components out.

All decisions lie in the engine and beside it. Images have their events in `image_handlers`, menus in `menus`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypeVar

import gradio as gr

from app.answers import reports
from app.answers import views as answers_views
from app.answers.reports import Report
from app.canvas import state as canvas_state
from app.canvas import views as canvas_views
from app.engine.capabilities import Capabilities
from app.engine.device import Task, working
from app.engine.engine import Engine
from app.explore.image_handlers import PICTURE
from app.explore.layout import Page
from app.model_pool.pool import LOAD, Models
from app.model_pool.work import Kind, Work, stream_work
from app.session import MAX_QUESTION, Session, Setting
from app.tradeoff import measure as tradeoff_measure
from app.tradeoff import views as tradeoff_views
from app.tradeoff.measure import Measured, Progress
from app.web import html
from app.web.controls import Controls, ControlValues
from app.web.errors import owner, report_errors
from app.web.events import Told
from app.web.streams import Shown
from app.web.updates import Updates, talk_buttons
from pruning.drawing.palettes import PAGE
from pruning.grids import Scope
from pruning.models.values import check_positions
from pruning.text import check_text, checked_question

V = TypeVar("V")

DRAW, PLANE = Kind("draw", lambda r: r.drawing, follows=True), Kind("plane", lambda r: r.drawing, follows=True)
ANSWER, SWEEP = Kind("answer", lambda r: r.answers, follows=True), Kind("sweep", lambda r: r.answers)


class Handlers:
    """The event functions of one page, bound to it, its models and its controls.

    settings: the values of the page's controls, which `ControlValues` reads.
    """

    def __init__(self, models: Models, controls: Controls, page: Page) -> None:
        self.models, self.controls, self.page = models, controls, page

    # Question

    @report_errors
    def ask(self, request: gr.Request, session: Session, question: str) -> Updates:
        """A question: the next turn where a conversation is under way, else a first one."""
        earlier = session.questions if len(session.questions) > 1 else ()
        return self._turn(request, session, earlier, question)

    @report_errors
    def follow_up(self, request: gr.Request, session: Session, question: str) -> Updates:
        """The next turn of the conversation."""
        return self._turn(request, session, session.questions, question)

    @report_errors
    def start_anew(self, request: gr.Request, session: Session, question: str) -> Updates:
        """The same question as the first turn of a new conversation."""
        return self._turn(request, session, (), question)

    @report_errors
    def hint(self, request: gr.Request, session: Session, question: str) -> str:
        """Names the words that the model cannot know."""
        with self._at_work(request, session) as (engine, _):
            unknown = engine.unknown_words(check_text("The question", question or ""))[:6]
        if not unknown:
            return ""
        return html.notice(f"Not in this model's vocabulary: {', '.join(unknown)}. It will guess.", "warn")

    # Results

    @report_errors
    def draw(self, request: gr.Request, session: Session, *settings: Any) -> Iterator[Updates]:
        """All that the canvas needs for these images and this method, and a card that says how to get one; in the
        place of the answer that comes after it, why it does not come yet, or not at all.
        """

        page = self.page

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[Updates]:
            setting = self.setting(capabilities, session, settings)
            exact = canvas_state.within_reach(engine, session, setting)
            shown = gr.HTML(canvas_state.payload(engine, session, setting), exact=exact)
            yield {page.canvas: shown, page.card: canvas_views.card(None)}

        def told(report: str) -> Updates:
            return {page.report: report}

        stopped = Report(0, 0, "", "stopped")
        shown = Shown(
            waiting=lambda place: told(answers_views.report(None, place)),
            stopped=lambda: told(answers_views.report(stopped)),
            failed=lambda problem: told(answers_views.report(None, problem=problem)),
        )
        yield from self._stream(request, session, DRAW, work, shown)

    @report_errors
    def settle(self, request: gr.Request, session: Session, *settings: Any) -> Any:
        """The exact selection of a setting at which the sliders rest, for where the canvas could only guess it."""
        with self._at_work(request, session) as (engine, capabilities):
            setting = self.setting(capabilities, session, settings)
            exact = canvas_state.within_reach(engine, session, setting)
            if setting.encoding is None or "key" not in exact:
                return gr.HTML(exact=exact)
            return gr.HTML(canvas_state.payload(engine, session, setting), exact=exact)  # a grid of its own

    @report_errors
    def card(self, request: gr.Request, clicked: Told, session: Session, *settings: Any) -> str:
        """Why the patch that was clicked is kept or dropped."""
        token = clicked.data.get("token")
        with self._at_work(request, session) as (engine, capabilities):
            return canvas_views.card(
                canvas_state.card(engine, session, self.setting(capabilities, session, settings), token)
            )

    @report_errors
    def force(self, edited: Told, session: Session) -> Session:
        """Patches were forced in or out, or released."""
        return replace(session, forced=canvas_state.forced(edited.data))

    @report_errors
    def report(self, request: gr.Request, session: Session, *settings: Any) -> Iterator[str]:
        """Stream both answers and what they cost."""
        last = Report(0, 0, "", "waiting")

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[str]:
            nonlocal last
            setting = self.setting(capabilities, session, settings)
            for last in reports.reports(engine, session, setting, task):
                yield answers_views.report(last)

        shown: Shown[str] = Shown(
            waiting=lambda place: answers_views.report(last, place),
            stopped=lambda: answers_views.report(replace(last, stage="stopped")),
            failed=lambda problem: answers_views.report(replace(last, stage="failed"), problem=problem),
        )
        yield from self._stream(request, session, ANSWER, work, shown)

    @report_errors
    def plane(self, request: gr.Request, session: Session, *settings: Any) -> Iterator[str]:
        """The I-H plane at the present budget."""

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[str]:
            setting = self.setting(capabilities, session, settings)
            points = tradeoff_measure.plane(engine, session, setting)
            note = tradeoff_measure.plane_note(engine, session, setting)
            yield tradeoff_views.chart(tradeoff_measure.plane_chart(points, PAGE), note=note)

        shown: Shown[str] = Shown(
            waiting=lambda place: tradeoff_views.chart(None, html.waiting(place)),
            stopped=lambda: tradeoff_views.chart(None, "Stopped"),
            failed=lambda problem: tradeoff_views.chart(None, problem),
        )
        yield from self._stream(request, session, PLANE, work, shown)

    @report_errors
    def curves(self, request: gr.Request, session: Session, names: Sequence[str], *settings: Any) -> Iterator[Updates]:
        """Measure the fidelity curves, points appearing as they come, and what they are about."""
        page = self.page
        last: Progress | None = None

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[Updates]:
            nonlocal last
            setting = self.setting(capabilities, session, settings)
            # "you are here" lies on a curve, or where a plan has its point
            drawing = names if setting.plan and names else [*names, setting.method.name]
            methods, left_out = tradeoff_measure.sweep_methods(capabilities, drawing, setting, len(session.pictures))
            n, here = engine.encoded(session).tokens.n, engine.budget(session, setting)
            for last in tradeoff_measure.sweep(engine, session, methods, task, positions=setting.positions):
                points = last.points
                drawn = tradeoff_measure.fidelity_chart(points, n, here, PAGE) if points else None
                measured = Measured(session, tuple(methods), points, last.total, setting.positions)
                waits = "Measuring …" if last.stage in ("answering", "sweeping") else "Nothing measured"
                empty = tradeoff_measure.NO_CURVE.get(last.stage, waits)
                yield {
                    page.curves: tradeoff_views.chart(drawn, empty),
                    page.progress: tradeoff_views.progress(last, left_out),
                    page.measured: measured,
                }

        def told(empty: str, words: str) -> Updates:
            drawn_already = last is not None and last.points
            return {page.progress: words} | ({} if drawn_already else {page.curves: tradeoff_views.chart(None, empty)})

        def stopped() -> Updates:
            return told(
                "Nothing measured", tradeoff_views.progress(replace(last or Progress((), 1, 0, ""), stage="stopped"))
            )

        shown = Shown(
            waiting=lambda place: told("Measuring …", tradeoff_views.progress(last, place=place)),
            stopped=stopped,
            failed=lambda problem: told("Nothing measured", tradeoff_views.progress(last, problem=problem)),
        )
        yield from self._stream(request, session, SWEEP, work, shown)

    # Work under way

    def interrupt(self, request: gr.Request) -> None:
        """What is being answered is out of date. Runs outside the queue: the next answer waits for this one's end."""
        self.models.resources.tasks.resume(owner(request))
        self.models.resources.tasks.stop(owner(request), ANSWER.name)

    def stop(self, request: gr.Request) -> None:
        """Stop all that this visitor has running, waiting or about to follow; what is there stays on the page."""
        self.models.resources.tasks.halt(owner(request))

    def anew(self, request: gr.Request) -> None:
        """Other images: what runs is out of date, but a model that is being loaded is still wanted."""
        self.models.resources.tasks.resume(owner(request))
        self.models.resources.tasks.stop(owner(request), but=(LOAD, PICTURE))

    def gone(self, request: gr.Request) -> None:
        """The tab was closed: nothing of it keeps device or model."""
        self.models.resources.tasks.resume(owner(request))  # whom nobody will hear of again is not remembered
        self.models.resources.tasks.stop(owner(request))
        self.models.leave(owner(request))

    def _stream(self, request: gr.Request, session: Session, kind: Kind, work: Work[V], shown: Shown[V]) -> Iterator[V]:
        yield from stream_work(self.models, owner(request), session.model_name, kind, work, shown)

    def _at_work(
        self, request: gr.Request | None, session: Session
    ) -> AbstractContextManager[tuple[Engine, Capabilities]]:
        return self.models.use(session.model_name, owner(request))

    def setting(self, capabilities: Capabilities, session: Session, settings: Sequence[Any]) -> Setting:
        """What the controls say."""
        values = ControlValues.read(settings)
        method, plan = self.controls.method(capabilities, values), self.controls.plan(capabilities, values)
        scope: Scope = values.scope or "sample"
        positions = check_positions(values.positions or "original")
        setting = Setting(method, values.retention, scope, plan=plan, positions=positions)
        return canvas_state.with_forced(session, setting)

    def _turn(self, request: gr.Request, session: Session, earlier: tuple[str, ...], question: str) -> Updates:
        """Session and conversation buttons with one more question, which the model can read."""
        question = checked_question(question, MAX_QUESTION)
        task = self.models.resources.tasks.begin(owner(request), "question")
        with working(task), self._at_work(request, session) as (engine, _):
            engine.vlm.prompt(engine.encoded(session), question)
        session = replace(session, questions=(*earlier, question))
        follow_up, anew = talk_buttons(session)
        return {self.page.session: session, self.page.follow_up: follow_up, self.page.anew: anew}
