"""Event functions of the two menus, of models and of methods: what a choice changes on the page.

A model may have to be loaded first: that takes its time, during which the page goes on with the model that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from app.engine.engine import Engine
from app.explore import views as explore_views
from app.model_pool.load_job import StoppedError
from app.model_pool.pool import LOAD, Models
from app.session import Session
from app.web import html, theme
from app.web.controls import Controls
from app.web.errors import message_for, owner, report_errors
from app.web.updates import scopes


class Menus:
    """Bound to one page's models and controls."""

    def __init__(self, models: Models, controls: Controls) -> None:
        self.models, self.controls = models, controls

    @report_errors
    def method(self, request: gr.Request, session: Session, name: str) -> tuple[Any, ...]:
        """What is to be said of the chosen method, its knobs; the weight sliders rest where it has no λ."""
        with self.models.use(session.model_name, owner(request)) as (_, capabilities):
            about = explore_views.about(capabilities.about(name), refused=name in capabilities.refused)
        active = gr.update(interactive=self.controls.has_lambda(name))
        return about, active, active, *self.controls.visibility(name)

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
    def switch(self, request: gr.Request, session: Session, name: str, method: str) -> tuple[Any, ...]:
        """Go over to the chosen model with the same images and questions, once it is there.

        Returns session, model menu, way to photographs, header, words on the model, method menu, words on the method,
        scopes, weights and knobs. Where the model is not there, the page keeps the one it has.
        """
        visitor = owner(request)
        found = self.models.state(name, visitor)
        chosen = replace(session, model_name=name if found == "loaded" else session.model_name)
        if found == "loading":  # chosen later than the load that has just ended
            return (gr.skip(),) * (10 + len(self.controls.knobs))
        with self.models.use(chosen.model_name, visitor) as (engine, capabilities):
            grids = engine.encoded(chosen).tokens.grids
            method = method if method in capabilities.methods else capabilities.methods[0]
            active = gr.update(interactive=self.controls.has_lambda(method))
            return (
                chosen,
                gr.update(choices=self.choices(visitor), value=chosen.model_name),
                gr.update(**self.photographs(engine, visitor)),
                header(engine),
                about_model(engine, self.models.allowed[chosen.model_name].note),
                gr.update(choices=capabilities.menu(), value=method),
                explore_views.about(capabilities.about(method)),
                scopes(grids),
                active,
                active,
                *self.controls.for_model(method, capabilities),
            )

    @report_errors
    def opened(self, request: gr.Request, session: Session) -> tuple[Any, Any]:
        """The model menu, and the way to photographs, as a new visitor finds them."""
        visitor = owner(request)
        with self.models.use(session.model_name, visitor) as (engine, _):
            offer = gr.update(**self.photographs(engine, visitor))
        return gr.update(choices=self.choices(visitor), value=session.model_name), offer

    @report_errors
    def choose_best(self, request: gr.Request) -> Any:
        """The model menu with the best model for photographs chosen."""
        best = self.models.best(owner(request))
        if best is None:
            raise ValueError("No model that reads photographs fits now: free memory or disk, or see the model menu")
        return gr.update(choices=self.choices(owner(request)), value=best.listed.name)

    def photographs(self, engine: Engine, visitor: str) -> dict[str, Any]:
        """The button that goes over to a model for photographs: there where this one knows its own world alone."""
        best = self.models.best(visitor) if engine.vlm.world is not None else None
        return {"value": explore_views.photographs(best), "visible": True} if best else {"visible": False}

    def choices(self, visitor: str) -> list[tuple[str, str]]:
        """(line, name) of every model that the operator allows."""
        return [(explore_views.model_line(entry), entry.listed.name) for entry in self.models.entries(visitor)]


def header(engine: Engine) -> str:
    """Which model runs where, and what it holds."""
    vlm = engine.vlm
    return explore_views.header(
        vlm.title, str(vlm.device), str(vlm.dtype).removeprefix("torch."), vlm.memory, engine.name
    )


def about_model(engine: Engine, note: str) -> str:
    """What the visitor has to know of the model before they use its answers. note: its licence, where there is one."""
    from pruning.models import SHIPPED

    return html.notice(theme.SHIPPED_NOTICE if str(engine.vlm.model_id) == str(SHIPPED) else note)
