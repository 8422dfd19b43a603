"""Layout and wiring: which component stands where, and which event calls which handler. No decision is taken here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from app import looks, reports, tradeoff, views
from app.api import Api
from app.controls import Board, image_input
from app.device import Task
from app.engine import Engine
from app.examples import EXAMPLES, FOLDER
from app.handlers import SUGGESTIONS, Handlers
from app.session import Session
from app.settings import Settings
from pruning import draw
from pruning.charts import PAGE

IMPORTANCE, DIVERSITY, RETENTION, STYLE = 0.5, 0.5, 0.25, "dimmed"
CURVES = ("idpruner", "greedy_importance", "divprune", "random", "uniform")
DEVICE: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 1}
LIGHT_WORK: dict[str, Any] = {"concurrency_id": "overlay", "concurrency_limit": 4}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
WEIGHTS = (("Importance", "importance-weight", IMPORTANCE), ("Diversity", "diversity-weight", DIVERSITY))
AT_ONCE: dict[str, Any] = {"queue": False, "trigger_mode": "multiple"}
LAST: dict[str, Any] = {"trigger_mode": "always_last"}


@dataclass(frozen=True)
class Start:
    """The example that the page opens with, and its results."""

    session: Session
    questions: tuple[str, ...]
    method: str
    overlay: str
    readout: str
    report: str
    plane: str


@dataclass(frozen=True)
class Page:
    """The components that events connect."""

    image: gr.Image
    examples: gr.HTML
    note: gr.HTML
    question: gr.Textbox
    ask: gr.Button
    hint: gr.HTML
    suggestions: list[gr.Button]
    method: gr.Dropdown
    knobs: list[Any]
    style: gr.Radio
    overlay: gr.HTML
    retention: gr.Slider
    readout: gr.HTML
    weights: list[gr.Slider]
    report: gr.HTML
    stop: gr.Button
    plane: gr.HTML
    tab: gr.Tab
    curves: gr.HTML
    progress: gr.HTML
    curve_methods: gr.CheckboxGroup
    measure: gr.Button


def build_demo(engine: Engine) -> gr.Blocks:
    """The page with an example whose result is already computed. Computing it also warms the model up."""
    gr.set_static_paths([FOLDER])
    board = Board(engine)
    handlers = Handlers(engine, board)
    start = _start(engine, board, handlers)
    with gr.Blocks(title="IDPruner Lab", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True) as demo:
        page = _layout(engine, board, start)
        _wire(demo, page, gr.State(start.session), handlers, board)
        _endpoints(Api(engine, board), board, start.method)
    demo.queue(default_concurrency_limit=4, max_size=256)
    return demo


def launch_options(settings: Settings) -> dict[str, Any]:
    """What `Blocks.launch` needs: Gradio 6 takes theme and style sheet there."""
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_sm,
        font=list(looks.FONTS),
        font_mono=list(looks.MONO),
    )
    return {
        "server_name": settings.host,
        "server_port": settings.port or None,
        "share": settings.share,
        "auth": settings.credentials(),
        "max_file_size": int(settings.upload_limit * 2**20),
        "theme": theme.set(**looks.COLOURS),
        "css": looks.stylesheet(),
        "head": f"<script>{looks.script('sliders')}</script>",
        "footer_links": ["api"],
        "enable_monitoring": False,
        "ssr_mode": False,
        "show_error": False,
        "quiet": True,
    }


def _start(engine: Engine, board: Board, handlers: Handlers) -> Start:
    example = EXAMPLES[0]
    session, _ = engine.open(example.path)
    question, name = example.questions[0], "idpruner" if "idpruner" in board.methods else board.methods[0]
    method = board.method(name, IMPORTANCE, DIVERSITY, board.defaults())
    *_, report = reports.reports(engine, session, question, method, RETENTION, Task())
    points = tradeoff.plane(engine, session, question, method, RETENTION)
    setting = (name, STYLE, IMPORTANCE, DIVERSITY, RETENTION, *board.defaults())
    plane = views.chart(tradeoff.plane_chart(points, PAGE))
    overlay, readout = handlers.overlay(session, question, *setting)
    return Start(session, example.questions, name, overlay, readout, views.report(report), plane)


def _layout(engine: Engine, board: Board, start: Start) -> Page:
    vlm, made = engine.vlm, dict[str, Any]()
    _html(views.header(vlm.title, str(vlm.device), str(vlm.dtype).removeprefix("torch."), vlm.model_id), "head")
    if _is_shipped(engine):
        _html(views.notice(looks.SHIPPED_NOTICE), "about-model")
    with gr.Row(elem_id="lab", equal_height=False):
        with gr.Column(scale=10, min_width=300, elem_id="controls"):
            made |= _controls(board, start)
        with gr.Column(scale=15, min_width=340, elem_id="stage"):
            made |= _stage(start)
        with gr.Column(scale=12, min_width=340, elem_id="results"):
            made |= _results(board, start)
    return Page(**made)


def _controls(board: Board, start: Start) -> dict[str, Any]:
    sources, place = ["upload", "clipboard", "webcam"], "Drop, paste or choose an image"
    image = image_input(
        start.session.path, label="Image", sources=sources, height=210, elem_id="image", buttons=[], placeholder=place
    )
    thumbnails = [(e.title, draw.fit(np.asarray(_picture(e.path)), 120)[0]) for e in EXAMPLES]
    examples = _html(views.thumbnails(thumbnails), "examples", "examples")
    note = _html("", "note")
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
        ask = gr.Button("Ask", variant="primary", scale=1, min_width=64, elem_id="ask")
    hint = _html("", "hint")
    with gr.Row(elem_id="suggestions"):
        padded = [*start.questions, *[""] * SUGGESTIONS][:SUGGESTIONS]
        suggestions = [gr.Button(text, size="sm", min_width=0, visible=bool(text)) for text in padded]
    refused = "; ".join(board.refused.values()) or None
    method = gr.Dropdown(
        board.menu(), value=start.method, label="Method", filterable=False, elem_id="method", info=refused
    )
    with gr.Row(elem_id="knobs"):
        knobs = board.components(start.method)
    return {"image": image, "examples": examples, "note": note, "question": question, "ask": ask, "hint": hint,
            "suggestions": suggestions, "method": method, "knobs": knobs}  # fmt: skip


def _stage(start: Start) -> dict[str, Any]:
    styles = [(title, key) for key, title in draw.STYLES.items()]
    style = gr.Radio(styles, value=STYLE, label="Overlay", show_label=False, container=False, elem_id="style")
    overlay = _html(start.overlay, "overlay")
    retention = gr.Slider(0.02, 1, RETENTION, step=0.01, label="Retention ratio", elem_id="retention", buttons=[])
    readout = _html(start.readout, "readout")
    with gr.Row(elem_id="weights"):
        weights = [
            gr.Slider(0, 1, value, step=0.05, label=f"{name} weight", buttons=[], min_width=150, elem_id=key)
            for name, key, value in WEIGHTS
        ]  # fmt: skip
    return {"style": style, "overlay": overlay, "retention": retention, "readout": readout, "weights": weights}


def _results(board: Board, start: Start) -> dict[str, Any]:
    report = _html(start.report, "report")
    stop = gr.Button("Stop", size="sm", elem_id="stop", min_width=0)
    with gr.Tabs(elem_id="tradeoff"):
        with gr.Tab("Trade-off plane", id="plane"):
            plane = _html(start.plane, "plane", "charts")
        with gr.Tab("Fidelity curves", id="curves") as tab:
            curves = _html(views.chart(None, looks.EMPTY_CURVES), "curves", "charts")
            progress = _html(views.progress(None), "progress")
            with gr.Accordion("Methods", open=False):
                ticked = [name for name in CURVES if name in board.methods]
                names = gr.CheckboxGroup(
                    board.menu(), value=ticked, show_label=False, container=False, elem_id="curve-methods"
                )
            measure = gr.Button("Measure again", size="sm", elem_id="measure")
    return {"report": report, "stop": stop, "plane": plane, "tab": tab, "curves": curves, "progress": progress,
            "curve_methods": names, "measure": measure}  # fmt: skip


def _wire(demo: gr.Blocks, page: Page, session: gr.State, handlers: Handlers, board: Board) -> None:
    sliders = [*page.weights, page.retention]
    menus: list[Any] = []
    for component, knob in zip(page.knobs, board.knobs, strict=True):
        (menus if knob.param.kind == "choice" else sliders).append(component)
    settings = [page.method, page.style, *page.weights, page.retention, *page.knobs]
    inputs, shown = [session, page.question, *settings], [page.overlay, page.readout]

    def follow(event: Any) -> None:
        """After the controls stand: the overlay, then the answer, and the plane beside it."""
        drawn = event.then(handlers.overlay, inputs, shown, **LAST, **LIGHT_WORK, **QUIET)
        drawn.then(handlers.ask, inputs, page.report, **LAST, **DEVICE, **QUIET)
        drawn.then(handlers.plane, inputs, page.plane, **LAST, **LIGHT_WORK, **QUIET)

    # The overlay follows every move; the answer and the plane wait until the slider rests.
    gr.on([slider.input for slider in sliders], handlers.overlay, inputs, shown, **LAST, **LIGHT_WORK, **QUIET)
    resting = [slider.release for slider in sliders]
    # A running answer is stopped first, and in this order: stopping must never reach the answer that comes after it.
    halted = gr.on(resting, handlers.interrupt, None, None, **AT_ONCE, **QUIET)
    halted.then(handlers.ask, inputs, page.report, **LAST, **DEVICE, **QUIET)
    gr.on(resting, handlers.plane, inputs, page.plane, **LAST, **LIGHT_WORK, **QUIET)
    page.style.input(handlers.overlay, inputs, shown, **LAST, **LIGHT_WORK, **QUIET)
    follow(page.method.input(handlers.method, page.method, [*page.weights, *page.knobs], **LIGHT_WORK, **QUIET))
    for menu in menus:
        follow(menu.input(handlers.interrupt, None, None, **AT_ONCE, **QUIET))

    gr.on([page.image.input, page.examples.select], handlers.stop, None, None, **AT_ONCE, **QUIET)
    asking = [page.ask.click, page.question.submit, page.method.input, *(b.click for b in page.suggestions)]
    gr.on([*asking, page.plane.select, page.curves.select], handlers.interrupt, None, None, **AT_ONCE, **QUIET)
    news = [session, page.note, *page.suggestions]
    follow(page.image.input(handlers.upload, page.image, news, **DEVICE, **QUIET))
    follow(page.examples.select(handlers.example, None, [page.image, page.question, *news], **DEVICE, **QUIET))
    follow(
        gr.on([page.ask.click, page.question.submit], handlers.hint, page.question, page.hint, **LIGHT_WORK, **QUIET)
    )
    for button in page.suggestions:
        follow(button.click(lambda text: (text, ""), button, [page.question, page.hint], **LIGHT_WORK, **QUIET))

    measuring, curves = [session, page.question, page.curve_methods, *settings], [page.curves, page.progress]
    gr.on([page.tab.select, page.measure.click], handlers.curves, measuring, curves, **DEVICE, **QUIET)
    place = [page.method, *page.weights, page.retention]
    for chart in (page.plane, page.curves):
        follow(chart.select(handlers.load, place, [*place, *page.knobs], **LIGHT_WORK, **QUIET))
    page.stop.click(handlers.stop, None, None, **AT_ONCE, **QUIET)
    demo.unload(handlers.stop)


def _endpoints(api: Api, board: Board, method: str) -> None:
    """The named API: components that no page shows, so that files go through the same checks as an upload."""
    with gr.Column(visible=False):
        path, question = image_input(label="image"), gr.Textbox(label="question")
        name = gr.Textbox(method, label="method", info=f"one of {', '.join(board.methods)}")
        values = {"importance": IMPORTANCE, "diversity": DIVERSITY, "retention": RETENTION}
        numbers = [gr.Number(value, label=label) for label, value in values.items()]
        knobs, methods, out = gr.JSON({}, label="knobs"), gr.JSON([], label="methods"), gr.JSON(label="result")
        inputs = [path, question, name, *numbers, knobs]
        for endpoint, given in ((api.select, inputs), (api.answer, inputs), (api.pareto, [*inputs, methods])):
            about = {"api_name": endpoint.__name__, "api_description": endpoint.__doc__}
            gr.Button().click(endpoint, given, out, **about, **DEVICE)


def _html(value: str, name: str, script: str | None = None) -> gr.HTML:
    """A piece of the page that `views` writes. `script`: a file of assets/ that gets `element` and `trigger`."""
    runs = looks.script(script) if script else None
    return gr.HTML(value, elem_id=name, js_on_load=runs, apply_default_css=False, padding=False)


def _picture(path: str) -> Any:
    from pruning.images import open_image

    return open_image(path)


def _is_shipped(engine: Engine) -> bool:
    from pruning.models import SHIPPED

    return str(engine.vlm.model_id) == str(SHIPPED)
