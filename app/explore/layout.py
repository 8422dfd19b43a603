"""Which component stands where on the page, and what it says when the page opens. No event, no decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from app.canvas import page as canvas_page
from app.canvas import views as canvas_views
from app.engine.capabilities import Capabilities
from app.engine.engine import Engine
from app.engine.resources import USUAL
from app.examples import EXAMPLES
from app.explore import views as explore_views
from app.explore.menus import about_model, header
from app.plan.page import PlanPage, place_plan
from app.session import Session
from app.tradeoff import views as tradeoff_views
from app.web import theme, wording
from app.web.controls import Controls
from app.web.events import html
from app.web.gradio_patches import image_input
from app.web.templates import render
from app.web.updates import MIN_RETENTION, SUGGESTIONS, scopes, talk_buttons
from pruning.drawing import overlays as draw
from pruning.images import open_image
from pruning.models.values import POSITIONS

IMPORTANCE, DIVERSITY, RETENTION, STYLE = 0.5, 0.5, 0.25, "dimmed"
CURVES = ("idpruner", "greedy_importance", "divprune", "random", "uniform")
TAKEN = (  # label, name, range, value, step
    ("Frames/second", "frames-rate", (0.25, 10), USUAL.rate, 0.25),
    ("Frames at most", "frames-most", (1, 64), USUAL.frames, 1),
)
WEIGHTS = (("Importance", "importance-weight", IMPORTANCE), ("Diversity", "diversity-weight", DIVERSITY))


@dataclass(frozen=True)
class Start:
    """What the page opens with: the start-up model, an example, and its results."""

    engine: Engine
    capabilities: Capabilities
    models: list[tuple[str, str]]
    photographs: dict[str, Any]
    note: str
    session: Session
    questions: tuple[str, ...]
    method: str
    canvas: dict[str, Any] | None
    exact: dict[str, Any] | None
    report: str
    plane: str


@dataclass(frozen=True)
class Page:
    """The components that events connect."""

    session: gr.State
    views: gr.Tabs
    tools: gr.Row
    header: gr.HTML
    about_model: gr.HTML
    model: gr.Dropdown
    photographs: gr.Button
    loading: gr.HTML
    image: gr.Image
    add: gr.UploadButton
    put: gr.UploadButton  # takes what the image field does not: media.js hands it over
    taking: gr.Row
    taken: list[gr.Slider]  # of clips: frames of each second, and the most in all
    strip: gr.HTML
    examples: gr.HTML
    note: gr.HTML
    question: gr.Textbox
    ask: gr.Button
    follow_up: gr.Button
    anew: gr.Button
    hint: gr.HTML
    suggestions: list[gr.Button]
    method: gr.Dropdown
    about_method: gr.HTML
    knobs: gr.HTML
    style: gr.Radio
    canvas: gr.HTML
    card: gr.HTML
    retention: gr.Slider
    plan: PlanPage
    budget: gr.Column
    scope: gr.Radio
    weights: list[gr.Slider]
    report: gr.HTML
    positions: gr.Radio
    stop: gr.Button
    plane: gr.HTML
    tab: gr.Tab
    curves: gr.HTML
    progress: gr.HTML
    measured: gr.State  # what the fidelity curves that are shown are about
    curve_methods: gr.CheckboxGroup
    measure: gr.Button

    @property
    def settings(self) -> list[Any]:
        """The components of `ControlValues`, in its order."""
        sliders, plan = [*self.weights, self.retention], self.plan.value
        return [self.method, self.style, self.scope, *sliders, plan, self.positions, self.knobs]


def layout(controls: Controls, start: Start) -> Page:
    """All of the page, inside the Blocks that are open."""
    made: dict[str, Any] = {"session": gr.State(start.session), "measured": gr.State(None)}
    with gr.Row(elem_id="top"):
        html(render("guide.head"), "title", "guide")
        made["about_model"] = html(
            about_model(start.engine, start.note, start.photographs["visible"], len(start.models) > 1), "about-model"
        )
        with gr.Row(elem_id="tools") as made["tools"]:
            pass
        made["header"] = html(header(start.engine), "head")
    with gr.Tabs(elem_id="views") as made["views"], gr.Tab("Explore", id="explore"), gr.Row(elem_id="lab"):
        with gr.Column(scale=10, min_width=300, elem_id="controls"):
            made |= _model(start) | _images(start) | _question(start) | _method(controls, start)
        with gr.Column(scale=15, min_width=340, elem_id="stage"):
            made |= _stage(start)
        with gr.Column(scale=12, min_width=340, elem_id="results"):
            made |= _results(start)
    return Page(**made)


def _model(start: Start) -> dict[str, Any]:
    model = gr.Dropdown(
        start.models, value=start.session.model_name, label="Model", elem_id="model", visible=len(start.models) > 1
    )
    photographs = gr.Button(
        start.photographs.get("value", ""),
        visible=start.photographs["visible"],
        size="sm",
        min_width=0,
        elem_id="photographs",
    )
    return {"model": model, "photographs": photographs, "loading": html("", "loading")}


def _images(start: Start) -> dict[str, Any]:
    sources, place = ["upload", "clipboard", "webcam"], "Drop, paste or choose an image or a clip"
    with gr.Column(elem_id="images"):
        image = image_input(
            start.session.pictures[0].path,
            label="Image",
            sources=sources,
            height=150,
            elem_id="image",
            buttons=[],
            placeholder=place,
        )
        add = gr.UploadButton("+ image or clip", file_count="multiple", size="sm", min_width=0, elem_id="add-image")
        with gr.Column(elem_id="put-clip"):
            put = gr.UploadButton("", file_count="multiple")
        html(render("explore.record"), "record", "record")
    strip = html("", "strip", "examples")
    with gr.Row(elem_id="taking", visible=bool(start.session.films)) as taking:
        taken = [
            gr.Slider(*span, value, step=step, label=label, buttons=[], min_width=120, elem_id=name)
            for label, name, span, value, step in TAKEN
        ]
    thumbnails = [(e.title, draw.fit(np.asarray(open_image(e.path)), 120)[0], e.frames > 0) for e in EXAMPLES]
    examples = html(explore_views.thumbnails(thumbnails), "examples", "examples")
    return {"image": image, "add": add, "put": put, "taking": taking, "taken": taken, "strip": strip,
            "examples": examples, "note": html("", "note")}  # fmt: skip


def _question(start: Start) -> dict[str, Any]:
    follow, new = talk_buttons(start.session)
    with gr.Row(elem_id="question-row", equal_height=True):
        question = gr.Textbox(
            start.questions[0],
            label="Question",
            max_lines=3,
            max_length=2000,
            scale=5,
            min_width=160,
            elem_id="question",
        )
        with gr.Column(scale=1, min_width=92, elem_id="ask-column"):
            ask = gr.Button("Ask", variant="primary", size="sm", min_width=64, elem_id="ask")
            follow_up = gr.Button("Follow up", size="sm", min_width=64, elem_id="follow-up", visible=follow["visible"])
            anew = gr.Button("New conversation", size="sm", min_width=64, elem_id="anew", visible=new["visible"])
    hint = html("", "hint")
    with gr.Row(elem_id="suggestions"):
        padded = [*start.questions, *[""] * SUGGESTIONS][:SUGGESTIONS]
        suggestions = [gr.Button(text, size="sm", min_width=0, visible=bool(text)) for text in padded]
    return {"question": question, "ask": ask, "follow_up": follow_up, "anew": anew, "hint": hint,
            "suggestions": suggestions}  # fmt: skip


def _method(controls: Controls, start: Start) -> dict[str, Any]:
    method = gr.Dropdown(
        start.capabilities.menu(len(start.session.pictures), bool(start.session.films)),
        value=start.method,
        label="Method",
        elem_id="method",
    )
    about = html(explore_views.about(start.capabilities.about(start.method)), "about-method")
    knobs = controls.component(start.method, start.capabilities)
    return {"method": method, "about_method": about, "knobs": knobs}


def _stage(start: Start) -> dict[str, Any]:
    styles = [(title, key) for key, title in draw.STYLES.items()]
    style = gr.Radio(styles, value=STYLE, label="Overlay", show_label=False, container=False, elem_id="style")
    live = canvas_page.component(start.canvas, start.exact)
    card = html(canvas_views.card(None), "card")
    with gr.Column(elem_id="budget") as budget:
        retention = gr.Slider(
            MIN_RETENTION, 1, RETENTION, step=0.01, label="Retention ratio", elem_id="retention", buttons=[]
        )
    plan = place_plan()
    parts = scopes(start.engine.encoded(start.session).tokens.grids if start.canvas else ())
    scope = gr.Radio(parts["choices"], value="sample", label="Budget for", visible=parts["visible"], elem_id="scope")
    with gr.Row(elem_id="weights"):
        weights = [
            gr.Slider(0, 1, value, step=0.05, label=f"{name} weight", buttons=[], min_width=150, elem_id=key)
            for name, key, value in WEIGHTS
        ]
    return {"style": style, "canvas": live, "card": card, "retention": retention, "plan": plan, "budget": budget,
            "scope": scope, "weights": weights}  # fmt: skip


def _results(start: Start) -> dict[str, Any]:
    report = html(start.report, "report")
    where = [(f"{wording.POSITIONS[key]} positions" if key == POSITIONS[0] else wording.POSITIONS[key], key)
             for key in POSITIONS]  # fmt: skip
    positions = gr.Radio(where, value=POSITIONS[0], label="Positions of kept tokens", elem_id="positions")
    stop = gr.Button("Stop", size="sm", elem_id="stop", min_width=0)
    with gr.Tabs(elem_id="tradeoff"):
        with gr.Tab("Trade-off plane", id="plane"):
            plane = html(start.plane, "plane", "charts")
        with gr.Tab("Fidelity curves", id="curves") as tab:
            curves = html(tradeoff_views.chart(None, theme.EMPTY_CURVES), "curves", "charts")
            with gr.Row(elem_id="measuring"):
                progress = html(tradeoff_views.progress(None), "progress")
                with gr.Accordion("Methods", open=False):
                    ticked = [name for name in CURVES if name in start.capabilities.methods]
                    names = gr.CheckboxGroup(
                        start.capabilities.menu(len(start.session.pictures), bool(start.session.films)),
                        value=ticked,
                        show_label=False,
                        container=False,
                        elem_id="curve-methods",
                    )
                measure = gr.Button("Measure again", size="sm", min_width=0, elem_id="measure")
    return {"report": report, "positions": positions, "stop": stop, "plane": plane, "tab": tab, "curves": curves,
            "progress": progress, "curve_methods": names, "measure": measure}  # fmt: skip
