"""The link to what the page shows: the button that copies it, and what a page does that is opened with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.engine.engine import Engine
from app.engine.resources import USUAL
from app.examples import EXAMPLES
from app.explore import views as explore_views
from app.explore.handlers import Handlers
from app.explore.layout import Page
from app.explore.menus import Menus
from app.model_pool.pool import LOAD
from app.session import Session
from app.share import link as share_link
from app.share import reading
from app.share.link import Link
from app.web import scripts
from app.web.controls import ControlValues
from app.web.errors import message_for, owner, report_errors
from app.web.events import AT_ONCE, LIGHT_WORK, LOADING, QUIET, Told, told
from app.web.templates import render
from app.web.updates import LEAST_RETENTION, retention, scopes, suggestions, talk_buttons
from pruning.video import Sampling

UPLOADED = "The image is not part of the link: uploads stay on this server and are soon deleted."
MISSING = "The link was made with an uploaded image, which is not part of it: choose the image to see the same."
REFUSED = "Not taken from it; the page's own values stand instead:"
LONG = f"Of this conversation, the first {share_link.TURNS} questions are part of the link."
FORCED = "Patches that you forced are not part of the link."


def place_share(page: Page) -> gr.HTML:
    """The button among the page's tools."""
    with page.tools:
        return gr.HTML(
            None,
            html_template=render("share.view"),
            js_on_load=scripts.start("share"),
            elem_id="share",
            apply_default_css=False,
            padding=False,
            told=None,
        )


def wire_share(
    view: gr.HTML,
    page: Page,
    handlers: Handlers,
    menus: Menus,
    opened: Any,
    inputs: Sequence[Any],
    follow: Callable[[Any], None],
) -> None:
    """opened: the last event of a page that opens. inputs: the visitor's session, and the page's settings. follow:
    makes all results follow an event.
    """
    restored = gr.State("")
    sharing = Sharing(view, page, restored, handlers, menus)
    pressed, press = told(view.copy)
    pressed.then(sharing.copy, [press, *inputs], view, **LIGHT_WORK, **QUIET)
    shown = [page.image, page.question, page.follow_up, page.anew, *page.suggestions]
    heads = [page.loading, page.model, page.photographs, page.header, page.about_model, page.about_method]
    outputs = [view, page.session, restored, *shown, *heads, *page.settings, page.taking, *page.taken]
    opened.then(sharing.open, [page.session, page.method, page.knobs], outputs, **LOADING, **QUIET)
    # Only a page that was opened with a link has anything new to show.
    follow(restored.change(handlers.interrupt, None, None, **AT_ONCE, **QUIET))


@dataclass(frozen=True)
class Sharing:
    """The event functions of one page."""

    view: gr.HTML
    page: Page
    restored: gr.State
    handlers: Handlers
    menus: Menus

    @property
    def rules(self) -> reading.Rules:
        weight, most, (rate, frames) = self.page.weights[0], self.page.retention.maximum, self.page.taken
        return reading.Rules(
            tuple(self.menus.models.allowed),
            (weight.minimum, weight.maximum),
            (LEAST_RETENTION, most),
            (rate.minimum, rate.maximum),
            (frames.minimum, frames.maximum),
        )

    @report_errors
    def copy(self, request: gr.Request, pressed: Told, session: Session, *settings: Any) -> Any:
        """The link, and what is not part of it."""
        with self.menus.models.use(session.model_name, owner(request)) as (_, capabilities):
            setting = self.handlers.setting(capabilities, session, settings)
        values = ControlValues.read(settings)
        link = share_link.of(session, setting, (values.importance, values.diversity), values.overlay)
        notes = [UPLOADED] * (link.example == share_link.UPLOAD) + [FORCED] * bool(setting.forced)
        notes += [LONG] * (len(session.questions) > share_link.TURNS)
        turn, title = pressed.data.get("turn"), "Link to what the page shows"
        return gr.HTML(told={"turn": turn, "title": title, "lead": "", "notes": notes, "query": share_link.write(link)})

    def open(self, request: gr.Request, session: Session, method: str, knobs: Any) -> Iterator[dict[Any, Any]]:
        """Put what the address says into the controls; the page stays as it is where it says nothing."""
        query = str(request.query_params or "")
        link, refused = reading.read(query, self.rules)
        if link is None:
            yield {self.view: gr.skip()}
            return
        models, visitor, wanted = self.menus.models, owner(request), link.model or session.model_name
        try:
            for loading in models.open(wanted, visitor, models.resources.tasks.begin(visitor, LOAD)):
                yield {self.page.loading: explore_views.loading(loading)}
        except Exception as error:
            refused.append(f"model = {wanted!r} ({message_for(error).message})")
            wanted = session.model_name
        yield {self.page.loading: ""}
        try:
            changed, more = self._changed(request, replace(session, model_name=wanted), link, method, knobs)
        except Exception as error:
            changed, more = {}, [message_for(error).message]
        refused += more
        lead = " ".join([MISSING] * (link.example == share_link.UPLOAD) + [REFUSED] * bool(refused))
        told = {"turn": 0, "title": "Opened with a link", "lead": lead, "notes": refused, "query": None}
        yield {self.restored: query, **changed, **({self.view: gr.HTML(told=told)} if lead else {})}

    def _changed(
        self, request: gr.Request, session: Session, link: Link, method: str, knobs: Any
    ) -> tuple[dict[Any, Any], list[str]]:
        """Component -> its value, for a link and a model that is loaded; and words on what is not taken."""
        page, models = self.page, self.menus.models
        example = next((e for e in EXAMPLES if e.name == link.example), None) or share_link.example_of(session)
        taken = Sampling(link.fps or USUAL.rate, link.frames or USUAL.frames)
        if example is not None:
            with models.use(session.model_name, owner(request)) as (engine, _):
                picture, _ = models.resources.pictures.open(example.path, taken, engine.vlm.no_clips)
            session = Session(session.model_name, (picture,), example.questions[:1])
        with models.use(session.model_name, owner(request)) as (engine, capabilities):
            link, refused = share_link.settle(link, capabilities, method)
            session, more = _asked(engine, session, link)
            parts = scopes(engine.encoded(session).tokens.grids)
        refused += more
        per = link.per or "sample"
        if per not in [value for _, value in parts["choices"]]:
            refused.append(f"per = {per!r} (this image has no such parts)")
            per = "sample"
        name = link.method or method
        changed = self.menus.switch(request, session, session.model_name, name, knobs)
        panel = changed[page.knobs]["value"]
        panel["held"] |= self.menus.controls.keyed(name, link.knobs)
        changed[page.scope] = {**parts, "value": per}
        given: list[tuple[Any, Any]] = [(page.weights[0], link.importance), (page.weights[1], link.diversity)]
        given += [(page.style, link.overlay), (page.positions, link.positions)]
        given += [(page.taken[0], link.fps), (page.taken[1], link.frames)]
        changed[page.plan.value] = link.plan or ""
        if link.retention is not None:
            changed[page.retention] = retention(link.retention)
        for component, value in given:
            if value is not None:
                changed[component] = {**changed.get(component, gr.update()), "value": value}
        changed[page.taking] = gr.update(visible=bool(session.films))
        if example is not None:
            changed |= {page.image: models.resources.pictures.shown(session.pictures[0])}
            changed |= dict(zip(page.suggestions, suggestions(example.questions), strict=True))
        changed |= dict(zip((page.follow_up, page.anew), talk_buttons(session), strict=True))
        return changed | {page.question: session.questions[-1] if session.questions else ""}, refused


def _asked(engine: Engine, session: Session, link: Link) -> tuple[Session, list[str]]:
    """The session with the link's questions, if the model can read them."""
    try:
        for question in link.questions:
            engine.vlm.prompt(engine.encoded(session), question)
    except ValueError as error:
        return session, [f"question ({error})"]
    return replace(session, questions=link.questions or session.questions), []
