"""The plan below the retention slider: a box to type it, a chart to drag it, published schedules, and composing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.engine.capabilities import Capabilities
from app.engine.engine import Engine
from app.model_pool.pool import Models
from app.plan import steps as plan_steps
from app.plan import views as plan_views
from app.session import MAX_PLAN, Session, Setting
from app.web import html, scripts
from app.web.controls import Controls, ControlValues, Present
from app.web.errors import message_for, owner, report_errors
from app.web.events import LIGHT_WORK, QUIET, told
from app.web.events import html as piece
from app.web.templates import render
from pruning.choosing import one_shot
from pruning.method import METHODS
from pruning.plan import Entry
from pruning.published import Published
from pruning.staged import STAGED, make_staged


@dataclass(frozen=True)
class PlanPage:
    """value: the plan in force, "" for none; the box may hold another while it is typed."""

    value: gr.State
    box: gr.Column
    text: gr.Textbox
    chart: gr.HTML
    published: gr.Dropdown
    first: gr.Dropdown
    note: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What `PlanEvents.show` writes."""
        return [self.box, self.text, self.chart, self.published, self.first, self.note]


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
    return PlanPage(value, box, text, chart, published, first, note)


def wire_plan(page: PlanPage, events: PlanEvents, inputs: list[Any]) -> None:
    """inputs: the visitor's session, and the page's settings. What follows a plan hangs on a change of its value."""
    shown, how = [page.value, page.note], {**LIGHT_WORK, **QUIET}
    for typed in (page.text.submit, page.text.blur):
        typed(events.typed, [page.text, *inputs], shown, **how)
    page.published.input(events.typed, [page.published, *inputs], shown, **how)
    page.first.input(events.composed, [page.first, *inputs], shown, **how)
    dragged, step = told(page.chart.edit)
    dragged.then(events.dragged, [step, *inputs], shown, **how)


class PlanEvents:
    """Bound to one page's models and controls; `present` gives the setting that they say."""

    def __init__(self, models: Models, controls: Controls, present: Present) -> None:
        self.models, self.controls, self.present = models, controls, present

    @report_errors
    def show(self, request: gr.Request, session: Session, *settings: Any) -> tuple[Any, ...]:
        """The plan of the present setting; nothing where all tokens leave before the language model."""
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            setting = self.present(capabilities, session, settings)
            if not setting.staged:
                return (gr.update(visible=False), *[gr.skip()] * 5)
            chart, note = self._now(engine, session, setting)
            own = ControlValues.read(settings).plan
            return (gr.update(visible=True), own, gr.HTML(chart), self._published(capabilities, setting, own),
                    self._first(capabilities, setting.method.name), note)  # fmt: skip

    @report_errors
    def typed(self, request: gr.Request, text: str | None, session: Session, *settings: Any) -> tuple[Any, Any]:
        """A plan in words, or the name of a published one; none where it is empty."""
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            return self._set(engine, capabilities, session, text or "", settings)

    @report_errors
    def dragged(self, request: gr.Request, step: Any, session: Session, *settings: Any) -> tuple[Any, Any]:
        """A step of the chart was moved."""
        return self.typed(request, str((step or {}).get("text", "")), session, *settings)

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
