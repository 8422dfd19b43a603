"""Event functions of the two menus, of models and of methods: what a choice changes on the page.

A model may have to be loaded first: that takes its time, during which the page goes on with the model that it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.engine.engine import Engine
from app.explore import views as explore_views
from app.model_pool.load_job import StoppedError
from app.model_pool.pool import LOAD, Models
from app.session import Session
from app.web import html
from app.web.controls import Controls, ControlValues, held
from app.web.errors import message_for, owner, report_errors
from app.web.events import Told
from app.web.updates import Updates, retention, scopes
from pruning.runnable import Started
from pruning.staged import StagedMethod

if TYPE_CHECKING:
    from app.explore.layout import Page


OTHER_MODELS = {
    "button": "The button in the first column loads a model that reads them.",
    "menu": "For those choose another model.",
    "start": "For those start the app with a larger model: --model NAME, see docs/models.md",
}  # what to do about a picture that the model knows nothing of


class Menus:
    """Bound to one page, its models and controls. Every event tells which components it changes, and to what."""

    def __init__(self, models: Models, controls: Controls, page: Page) -> None:
        self.models, self.controls, self.page = models, controls, page

    @report_errors
    def method(self, request: gr.Request, session: Session, *settings: Any) -> Updates:
        """What is to be said of the chosen method, its knobs; the weight sliders rest where it has no λ. A retention
        that its schedule cannot come to goes to the next step that it can. A plan in its place goes.
        """
        values = ControlValues.read(settings)
        name, moved = values.method, {self.page.plan.value: ""}
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            about = explore_views.about(capabilities.about(name), refused=name in capabilities.refused)
            if name not in capabilities.refused:
                method = self.controls.method(capabilities, values)
                near = within_reach(method, engine.encoded(session).tokens.n, engine.vlm.layers, values.retention)
                if near != values.retention:
                    moved[self.page.retention] = gr.update(value=near)
        panel = gr.HTML(self.controls.panel(name, values.knobs))
        return {self.page.about_method: about, self.page.knobs: panel} | moved | self._active(name)

    @report_errors
    def point(self, request: gr.Request, clicked: Told, session: Session, name: str, knobs: Any) -> Updates:
        """A point of a chart was clicked: `_moved`."""
        return self._moved(request, clicked.data, session, name, knobs)

    @report_errors
    def asked_elsewhere(self, request: gr.Request, asked: Any, session: Session, name: str, knobs: Any) -> Updates:
        """The setting under which another view showed a question: `_moved`."""
        return self._moved(request, asked[2], session, name, knobs)

    def _moved(
        self, request: gr.Request, setting: Mapping[str, Any], session: Session, name: str, knobs: Any
    ) -> Updates:
        """A setting goes into the controls, which then are to be seen. name, knobs: the present method, and the panel.
        Raises ValueError for a plan or a knob that this model or method cannot have.
        """
        page = self.page
        with self.models.use(session.model_name, owner(request)) as (_, capabilities):
            wanted, plan = setting.get("method"), setting.get("plan") or ""
            name = wanted if wanted in capabilities.methods else name
            about = explore_views.about(capabilities.about(name))
            if plan:
                capabilities.plan(plan)
        own = {**held(knobs), **self.controls.keyed(name, setting.get("knobs") or {})}
        changed = self._active(name) | {page.knobs: gr.HTML(self.controls.panel(name, own))}
        changed |= {page.views: gr.update(selected="explore")}
        changed |= {page.method: name, page.about_method: about, page.plan.value: plan}
        value, kept = setting.get("mmr_lambda"), setting.get("retention")
        if isinstance(value, (int, float)) and 0 <= value <= 1:
            for slider, weight in zip(page.weights, (value, 1 - value), strict=True):
                changed[slider] = {**changed[slider], "value": round(weight, 2)}
        if isinstance(kept, (int, float)) and 0 < kept <= 1:
            changed[page.retention] = retention(kept)
        return changed

    def load(self, request: gr.Request, name: str) -> Iterator[str]:
        """Load the chosen model where need be: how far it is, and in the end nothing, or why it failed."""
        visitor = owner(request)
        self.models.resources.tasks.stop(visitor)  # what runs would hold the model that may have to go
        task = self.models.resources.tasks.begin(visitor, LOAD)
        try:
            for loading in self.models.open(name, visitor, task):
                yield explore_views.loading(loading)
        except Exception as error:
            again = isinstance(error, StoppedError) and self.models.state(name, visitor) == "loading"
            if not again:  # else they chose it once more, and that choice tells
                yield html.notice(message_for(error).message, "warn")
        else:
            yield ""

    @report_errors
    def switch(self, request: gr.Request, session: Session, name: str, method: str, knobs: Any) -> Updates:
        """Go over to the chosen model with the same images and questions, once it is there.

        Where the model is not there, the page keeps the one it has.
        """
        page, visitor = self.page, owner(request)
        state = self.models.state(name, visitor)
        chosen = replace(session, model_name=name if state == "loaded" else session.model_name)
        if state == "loading":  # chosen later than the load that has just ended
            return {page.session: gr.skip()}
        with self.models.use(chosen.model_name, visitor) as (engine, capabilities):
            grids = engine.encoded(chosen).tokens.grids
            method = method if method in capabilities.methods else capabilities.methods[0]
            return {
                page.session: chosen,
                page.model: gr.update(choices=choices(self.models, visitor), value=chosen.model_name),
                page.photographs: gr.update(**photographs(self.models, engine, visitor)),
                page.header: header(engine),
                page.about_model: about_model(
                    engine,
                    self.models.allowed[chosen.model_name].note,
                    photographs(self.models, engine, visitor)["visible"],
                    len(choices(self.models, visitor)) > 1,
                ),
                page.method: gr.update(
                    choices=capabilities.menu(len(chosen.pictures), bool(chosen.films)), value=method
                ),
                page.about_method: explore_views.about(capabilities.about(method)),
                page.scope: scopes(grids),
                page.plan.value: "",  # this model has other layers
                page.knobs: self.controls.for_model(method, capabilities, held(knobs)),
                **self._active(method),
            }

    @report_errors
    def opened(self, request: gr.Request, session: Session) -> Updates:
        """The model menu, and the way to photographs, as a new visitor finds them."""
        page, visitor = self.page, owner(request)
        with self.models.use(session.model_name, visitor) as (engine, _):
            offer = gr.update(**photographs(self.models, engine, visitor))
        menu = gr.update(choices=choices(self.models, visitor), value=session.model_name)
        return {page.model: menu, page.photographs: offer}

    @report_errors
    def choose_best(self, request: gr.Request) -> Any:
        """The model menu with the best model for photographs chosen."""
        visitor = owner(request)
        best = self.models.best(visitor)
        if best is None:
            raise ValueError("No model that reads photographs fits now: free memory or disk, or see the model menu")
        return gr.update(choices=choices(self.models, visitor), value=best.listed.name)

    def _active(self, name: str) -> Updates:
        active = self.controls.has_lambda(name)
        return {slider: gr.update(interactive=active) for slider in self.page.weights}


def within_reach(method: Started, n: int, layers: int, retention: float) -> float:
    """The retention, or where n tokens cannot come to it the nearest hundredth that they can."""
    if not isinstance(method, StagedMethod) or retention == 1:
        return retention
    least, most, _ = method.reach(n, layers)
    low, high = math.ceil(100 * least - 1e-9) / 100, math.floor(100 * most + 1e-9) / 100
    return max(low, min(high, retention)) if low <= high else 1.0


def choices(models: Models, visitor: str) -> list[tuple[str, str]]:
    """(line, name) of every model that the operator allows."""
    return [(explore_views.model_line(entry), entry.listed.name) for entry in models.entries(visitor)]


def photographs(models: Models, engine: Engine, visitor: str) -> dict[str, Any]:
    """The button that goes over to a model for photographs: there where this one knows its own world alone."""
    best = models.best(visitor) if engine.vlm.world is not None else None
    return {"value": explore_views.photographs(best), "visible": True} if best else {"visible": False}


def header(engine: Engine) -> str:
    """Which model runs where, and what it holds."""
    vlm = engine.vlm
    return explore_views.header(
        vlm.title, str(vlm.device), str(vlm.dtype).removeprefix("torch."), vlm.memory, engine.name
    )


def about_model(engine: Engine, note: str, button: bool, others: bool) -> str:
    """What the visitor has to know of the model before they use its answers. note: its licence, where there is one.

    button: whether that of `photographs` is there. others: whether the menu has more models than this one.
    """
    world = engine.vlm.world
    if world is None:
        return html.notice(note)
    remedy = OTHER_MODELS["button"] if button else OTHER_MODELS["menu"] if others else OTHER_MODELS["start"]
    return html.notice(f"This small model knows {world.name}, not photographs. {remedy}")
