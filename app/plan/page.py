"""The plan below the retention slider: a box to type it, a chart to drag it, published schedules, and composing; which
of text and picture dominates in each layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.model_pool.pool import Models
from app.model_pool.work import Kind, stream_work
from app.plan import dominance as plan_dominance
from app.plan import steps as plan_steps
from app.plan import views as plan_views
from app.session import MAX_PLAN, Session, Setting
from app.web import html, scripts
from app.web.controls import Controls, ControlValues, Present
from app.web.errors import message_for, owner, report_errors
from app.web.events import AT_ONCE, LIGHT_WORK, QUIET, STREAMED, Told, chosen, told
from app.web.events import html as piece
from app.web.html import waiting
from app.web.streams import Shown
from app.web.templates import render
from pruning.choosing import one_shot
from pruning.method import METHODS
from pruning.plan import Entry
from pruning.published import Published
from pruning.staged import STAGED, make_staged

TIPS = {
    "#plan-text": "What leaves where: WHERE:METHOD:HOW_MANY, such as pre:idpruner:0.4,3:fastv:0.5. Enter applies it",
    "#plan-measures": "How much the answer attends to a token of the text and to one of the picture, in each layer: "
    'measured here, with MDI and AEI of "When Language Overrules", arXiv 2508.10552. 1 = balanced',
    "#plan-published": "The cuts of a paper or its code, in the place of the slider",
    "#plan-first": "A method that chooses what enters the language model; this method goes on from there",
}
DOMINANCE = Kind("dominance", lambda r: r.drawing, follows=True)


@dataclass(frozen=True)
class PlanPage:
    """value: the plan in force, "" for none; the box may hold another while it is typed. measures: whether what
    dominates is measured with every answer.
    """

    value: gr.State
    box: gr.Column
    text: gr.Textbox
    chart: gr.HTML
    measures: gr.Checkbox
    dominance: gr.HTML
    published: gr.Dropdown
    first: gr.Dropdown
    note: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What `PlanEvents.show` writes."""
        return [self.box, self.text, self.chart, self.dominance, self.published, self.first, self.note]


def place_plan() -> PlanPage:
    """Into the column that is open: hidden until something leaves between layers."""
    value = gr.State("")
    with gr.Column(visible=False, elem_id="plan") as box:
        chart = gr.HTML(
            None,
            html_template=render("plan.component"),
            js_on_load=scripts.start("plan-chart"),
            elem_id="plan-chart",
            apply_default_css=False,
            padding=False,
        )
        measures = gr.Checkbox(
            False, label="Text or picture, layer by layer: MDI and AEI", container=False, elem_id="plan-measures"
        )
        dominance = gr.HTML(
            None,
            html_template=render("plan.dominance"),
            js_on_load=scripts.start("dominance-chart"),
            elem_id="plan-dominance",
            apply_default_css=False,
            padding=False,
        )
        text = gr.Textbox(
            "", label="Plan", placeholder="empty: the method's own schedule, at the slider's retention", max_lines=2,
            max_length=MAX_PLAN, elem_id="plan-text",
        )  # fmt: skip
        note = piece("", "plan-note")
        with gr.Row(elem_id="plan-menus"):
            published = gr.Dropdown(
                [], value=None, label="Published schedules", min_width=130, elem_id="plan-published"
            )
            first = gr.Dropdown([], value=None, label="First, before the LLM", min_width=130, elem_id="plan-first")
    return PlanPage(value, box, text, chart, measures, dominance, published, first, note)


def wire_plan(page: PlanPage, events: PlanEvents, inputs: list[Any]) -> None:
    """inputs: the visitor's session, and the page's settings. What follows a plan hangs on a change of its value, and
    what dominates on the end of an answer.
    """
    shown, how = [page.value, page.note], {**LIGHT_WORK, **QUIET}
    for typed in (page.text.submit, page.text.blur):
        typed(events.typed, [page.text, *inputs], shown, **how)
    wanted = page.measures.input(events.resume, None, None, **AT_ONCE, **QUIET)
    wanted.then(events.measure, [page.measures, *inputs], page.dominance, **STREAMED, **QUIET)
    chosen(page.published)(events.typed, [page.published, *inputs], shown, **how)
    chosen(page.first)(events.composed, [page.first, *inputs], shown, **how)
    dragged, step = told(page.chart.edit)
    dragged.then(events.dragged, [step, *inputs], shown, **how)


class PlanEvents:
    """Bound to one page's models and controls; `present` gives the setting that they say."""

    def __init__(self, models: Models, controls: Controls, present: Present) -> None:
        self.models, self.controls, self.present = models, controls, present

    @report_errors
    def show(self, request: gr.Request, measures: bool, session: Session, *settings: Any) -> tuple[Any, ...]:
        """The plan of the present setting; nothing where all tokens leave before the language model."""
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            setting = self.present(capabilities, session, settings)
            if not setting.staged:
                return (gr.update(visible=False), *[gr.skip()] * 6)
            chart, note = self._now(engine, session, setting)
            own = ControlValues.read(settings).plan
            found = plan_dominance.recalled(engine, session, setting)
            dominance = self._dominance(session, setting, found) if measures else None
            published, first = (
                self._published(capabilities, setting, own),
                self._first(capabilities, setting.method.name),
            )
            return gr.update(visible=True), own, gr.HTML(chart), gr.HTML(dominance), published, first, note

    def resume(self, request: gr.Request) -> None:
        """After a Stop, what is measured is wanted again."""
        self.models.resources.tasks.resume(owner(request))

    @report_errors
    def measure(self, request: gr.Request, measures: bool, session: Session, *settings: Any) -> Iterator[Any]:
        """Which of text and picture dominates in each layer, once there are answers; nothing where that is not asked
        for.
        """

        def told(words: str, problem: bool = False) -> Any:
            return gr.HTML(plan_views.dominance(session, None, words, problem))

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[Any]:
            setting = self.present(capabilities, session, settings)
            if setting.staged:
                yield gr.HTML(self._dominance(session, setting, plan_dominance.measured(engine, session, setting)))

        if not measures:
            yield gr.HTML(None)
            return
        shown: Shown[Any] = Shown(
            waiting=lambda place: told(waiting(place)),
            stopped=lambda: told(plan_views.STOPPED),
            failed=lambda problem: told(problem, True),
        )
        yield from stream_work(self.models, owner(request), session.model_name, DOMINANCE, work, shown)

    def _dominance(self, session: Session, setting: Setting, found: plan_dominance.Dominances | None) -> dict[str, Any]:
        about = (session.model_name, session.keys, plan_dominance.about(session, setting))
        return plan_views.dominance(about, found, "" if found else plan_views.PENDING)

    @report_errors
    def typed(self, request: gr.Request, text: str | None, session: Session, *settings: Any) -> tuple[Any, Any]:
        """A plan in words, or the name of a published one; none where it is empty."""
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            return self._set(engine, capabilities, session, text or "", settings)

    @report_errors
    def dragged(self, request: gr.Request, step: Told, session: Session, *settings: Any) -> tuple[Any, Any]:
        """A step of the chart was moved."""
        return self.typed(request, str(step.data.get("text", "")), session, *settings)

    @report_errors
    def composed(self, request: gr.Request, first: str | None, session: Session, *settings: Any) -> tuple[Any, Any]:
        """A method of one shot chooses what enters, at the slider's retention; the method's rule goes on from it."""
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            values = ControlValues.read(settings)
            if not first or values.method not in STAGED:
                return gr.skip(), gr.skip()
            entry = Entry(one_shot(capabilities.default(capabilities.check(first))), float(values.retention))
            text = plan_steps.composed(entry, make_staged(values.method), engine.vlm.layers)
            return self._set(engine, capabilities, session, text, settings)

    def _set(
        self, engine: Engine, capabilities: Capabilities, session: Session, text: str, settings: Sequence[Any]
    ) -> tuple[Any, Any]:
        """The plan in force, and what is wrong with one that cannot be: the page stays as it is then."""
        text, values = text.strip(), ControlValues.read(settings)
        if text == values.plan:
            return gr.skip(), self._now(engine, session, self.present(capabilities, session, settings))[1]
        try:
            plan = self.controls.plan(capabilities, replace(values, plan=text))
            if plan is not None:
                plan_steps.numbers(plan, engine.encoded(session).tokens.n, engine.vlm.layers)
        except ValueError as error:
            return gr.skip(), html.notice(message_for(error).message, "warn")
        return text, gr.skip()

    def _now(self, engine: Engine, session: Session, setting: Setting) -> tuple[dict[str, Any] | None, str]:
        """The chart's value, and the line below it."""
        try:
            steps = plan_steps.steps(engine, session, setting)
        except ValueError as error:
            return None, html.notice(message_for(error).message, "warn")
        return plan_views.chart(steps), "" if steps is None else plan_views.note(setting, steps)

    def _published(self, capabilities: Capabilities, setting: Setting, own: str) -> Any:
        name = setting.plan.rule.name if isinstance(setting.plan, Published) else setting.method.name
        found = [each for each in plan_steps.schedules(name) if each.rule.name not in capabilities.refused]
        choices = [
            (f"{each.title} · {each.about}" if each.about not in each.title else each.title, each.name)
            for each in found
        ]
        source = next((each.source for each in found if each.name == own), "")
        value = own if own in [each.name for each in found] else None
        return gr.update(choices=choices, value=value, info=source or None)

    def _first(self, capabilities: Capabilities, name: str) -> Any:
        choices = [(METHODS[each].title, each) for each in capabilities.methods if each in METHODS]
        return gr.update(choices=choices, value=None, visible=name in STAGED)
