"""Layout and wiring: which component stands where, and which event calls which handler. No decision is taken here."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from app import reports, tradeoff, views
from app.api import Api
from app.controls import Board, image_input
from app.device import Task
from app.engine import Engine
from app.examples import EXAMPLES, FOLDER
from app.handlers import SUGGESTIONS, Handlers
from app.settings import Settings
from pruning import draw
from pruning.charts import DARK, LIGHT, PAGE, Palette

ASSETS = Path(__file__).resolve().parents[1] / "assets"
START = {"importance": 0.5, "diversity": 0.5, "retention": 0.25}
STYLE = "dimmed"
CURVES = ("idpruner", "greedy_importance", "divprune", "random", "uniform")
DEVICE: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 1}
LIGHT_WORK: dict[str, Any] = {"concurrency_id": "overlay", "concurrency_limit": 4}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "Helvetica", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")


def build_demo(engine: Engine) -> gr.Blocks:
    """The page with an example whose result is already computed. Computing it also warms the model up."""
    gr.set_static_paths([FOLDER])
    board, example = Board(engine), EXAMPLES[0]
    handlers, api = Handlers(engine, board), Api(engine, board)
    method = "idpruner" if "idpruner" in board.methods else board.methods[0]
    session, _ = engine.open(example.path)
    question = example.questions[0]
    chosen = board.method(method, START["importance"], START["diversity"], board.defaults())
    *_, first = reports.reports(engine, session, question, chosen, START["retention"], Task())
    points = tradeoff.plane(engine, session, question, chosen, START["retention"])
    setting = (method, STYLE, START["importance"], START["diversity"], START["retention"], *board.defaults())
    painted, told = handlers.overlay(session, question, *setting)

    with gr.Blocks(title="IDPruner Lab", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True) as demo:
        state = gr.State(session)
        vlm = engine.vlm
        fragment(views.header(vlm.title, str(vlm.device), str(vlm.dtype).removeprefix("torch."), vlm.model_id), "head")
        if is_shipped(engine):
            fragment(views.notice(SHIPPED_NOTICE), "about-model")
        with gr.Row(elem_id="lab", equal_height=False):
            with gr.Column(scale=10, min_width=300, elem_id="controls"):
                image = image_input(
                    example.path,
                    label="Image",
                    sources=["upload", "clipboard", "webcam"],
                    height=210,
                    elem_id="image",
                    buttons=[],
                    placeholder="Drop, paste or choose an image",
                )
                gallery = fragment(thumbnails(), "examples", PICK)
                note = fragment("", "note")
                with gr.Row(elem_id="question-row", equal_height=True):
                    asked = gr.Textbox(
                        question,
                        label="Question",
                        max_lines=3,
                        max_length=2000,
                        scale=5,
                        min_width=160,
                        elem_id="question",
                        placeholder="what color is the star?",
                    )
                    go = gr.Button("Ask", variant="primary", scale=1, min_width=64, elem_id="ask")
                hint = fragment("", "hint")
                with gr.Row(elem_id="suggestions"):
                    buttons = [
                        gr.Button(text, size="sm", min_width=0, elem_classes="suggestion")
                        for text in padded(example.questions)
                    ]
                menu = gr.Dropdown(
                    board.menu(),
                    value=method,
                    label="Method",
                    filterable=False,
                    elem_id="method",
                    info="; ".join(board.refused.values()) or None,
                )
                with gr.Row(elem_id="knobs"):
                    knobs = board.components(method)
            with gr.Column(scale=15, min_width=340, elem_id="stage"):
                style = gr.Radio(
                    [(title, key) for key, title in draw.STYLES.items()],
                    value=STYLE,
                    label="Overlay",
                    show_label=False,
                    container=False,
                    elem_id="style",
                )
                overlay = fragment(painted, "overlay")
                retention = gr.Slider(
                    0.02, 1, START["retention"], step=0.01, label="Retention ratio", elem_id="retention", buttons=[]
                )
                readout = fragment(told, "readout")
                with gr.Row(elem_id="weights"):
                    weights = [
                        gr.Slider(
                            0,
                            1,
                            START[key],
                            step=0.05,
                            label=f"{key.capitalize()} weight",
                            buttons=[],
                            min_width=150,
                            elem_id=f"{key}-weight",
                        )
                        for key in ("importance", "diversity")
                    ]
            with gr.Column(scale=12, min_width=340, elem_id="results"):
                report = fragment(views.report(first), "report")
                stop = gr.Button("Stop", size="sm", elem_id="stop", min_width=0)
                with gr.Tabs(elem_id="tradeoff"):
                    with gr.Tab("Trade-off plane", id="plane"):
                        plane = fragment(views.chart(tradeoff.plane_chart(points, PAGE)), "plane", script("charts"))
                    with gr.Tab("Fidelity curves", id="curves") as tab:
                        curves = fragment(views.chart(None, EMPTY_CURVES), "curves", script("charts"))
                        progress = fragment(views.progress(None), "progress")
                        with gr.Accordion("Methods", open=False):
                            names = gr.CheckboxGroup(
                                board.menu(),
                                value=[c for c in CURVES if c in board.methods],
                                show_label=False,
                                container=False,
                                elem_id="curve-methods",
                            )
                        measure = gr.Button("Measure again", size="sm", elem_id="measure")

        settings = [menu, style, *weights, retention, *knobs]
        shown, inputs = [overlay, readout], [state, asked, *settings]
        sources = [component for component, knob in zip(knobs, board.knobs, strict=True) if knob.param.kind == "choice"]
        ranges = [component for component in knobs if component not in sources]
        sliders = [*weights, retention, *ranges]

        def follow(event: Any) -> None:
            """After the controls stand: the overlay, then the answer; the plane beside it."""
            drawn = event.then(handlers.overlay, inputs, shown, **LIGHT_WORK, **QUIET)
            drawn.then(handlers.ask, inputs, report, **DEVICE, **QUIET)
            drawn.then(handlers.plane, inputs, plane, **LIGHT_WORK, **QUIET)

        # The overlay follows every move; the answer and the plane wait until the slider rests.
        gr.on(
            [s.input for s in sliders], handlers.move, inputs, shown, trigger_mode="always_last", **LIGHT_WORK, **QUIET
        )
        resting = [s.release for s in sliders]
        gr.on(resting, handlers.ask, inputs, report, trigger_mode="always_last", **DEVICE, **QUIET)
        gr.on(resting, handlers.plane, inputs, plane, trigger_mode="always_last", **LIGHT_WORK, **QUIET)
        style.input(handlers.overlay, inputs, shown, trigger_mode="always_last", **LIGHT_WORK, **QUIET)
        follow(menu.input(handlers.method, menu, [*weights, *knobs], **LIGHT_WORK, **QUIET))
        for source in sources:
            follow(source.input(handlers.stop, None, None, queue=False, **QUIET))

        news = [state, note, *buttons]
        follow(image.input(handlers.upload, image, news, **DEVICE, **QUIET))
        follow(gallery.select(handlers.example, None, [image, asked, *news], **DEVICE, **QUIET))
        asking = gr.on([go.click, asked.submit], handlers.hint, asked, hint, **LIGHT_WORK, **QUIET)
        follow(asking)
        for button in buttons:
            follow(button.click(lambda text: (text, ""), button, [asked, hint], **LIGHT_WORK, **QUIET))

        stop.click(handlers.stop, None, None, queue=False, **QUIET)
        gr.on(
            [tab.select, measure.click],
            handlers.curves,
            [state, asked, names, *settings],
            [curves, progress],
            **DEVICE,
            **QUIET,
        )
        for chart in (plane, curves):
            picked = chart.select(
                handlers.load, [menu, *weights, retention], [menu, *weights, retention, *knobs], **LIGHT_WORK, **QUIET
            )
            follow(picked)
        demo.unload(handlers.stop)
        endpoints(api, board, method)
    demo.queue(default_concurrency_limit=4, max_size=256)
    return demo


def endpoints(api: Api, board: Board, method: str) -> None:
    """The named API: components that no page shows, so that files go through the same checks as an upload."""
    with gr.Column(visible=False):
        path, question = image_input(label="image"), gr.Textbox(label="question")
        name = gr.Textbox(method, label="method", info=f"one of {', '.join(board.methods)}")
        numbers = [gr.Number(START[key], label=key) for key in ("importance", "diversity", "retention")]
        knobs, methods, out = gr.JSON({}, label="knobs"), gr.JSON([], label="methods"), gr.JSON(label="result")
        inputs = [path, question, name, *numbers, knobs]
        for endpoint, values in ((api.select, inputs), (api.answer, inputs), (api.pareto, [*inputs, methods])):
            gr.Button().click(
                endpoint, values, out, api_name=endpoint.__name__, api_description=endpoint.__doc__, **DEVICE
            )


def fragment(value: str, name: str, script: str | None = None) -> gr.HTML:
    """A piece of the page that `views` writes. `script` runs once with `element` and `trigger` at hand."""
    return gr.HTML(value, elem_id=name, js_on_load=script, apply_default_css=False, padding=False)


def thumbnails() -> str:
    """The examples, small enough to travel inside the page."""
    from pruning.images import open_image

    return views.thumbnails([(e.title, draw.fit(np.asarray(open_image(e.path)), 120)[0]) for e in EXAMPLES])


def launch_options(settings: Settings) -> dict[str, Any]:
    """What `Blocks.launch` needs: Gradio 6 takes theme and style sheet there."""
    return {
        "server_name": settings.host,
        "server_port": settings.port or None,
        "share": settings.share,
        "auth": settings.credentials(),
        "max_file_size": int(settings.upload_limit * 2**20),
        "theme": theme(),
        "css": stylesheet(),
        "head": f"<script>{script('sliders')}</script>",
        "footer_links": ["api"],
        "enable_monitoring": False,
        "ssr_mode": False,
        "show_error": False,
        "quiet": True,
    }


def theme() -> gr.themes.Base:
    """Quiet surfaces and one accent. System fonts only, so that no page asks a font host."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_sm,
        text_size=gr.themes.sizes.text_md,
        font=list(SYSTEM),
        font_mono=list(MONO),
    ).set(
        body_background_fill="#f4f6f9",
        body_background_fill_dark="#0e131b",
        block_background_fill="#ffffff",
        block_background_fill_dark="#161d28",
        border_color_primary="#dde2ea",
        border_color_primary_dark="#2c3646",
        body_text_color="#1b2430",
        body_text_color_dark="#eef2f7",
        body_text_color_subdued="#566173",
        body_text_color_subdued_dark="#a7b1c0",
        color_accent="#1d5fd0",
        slider_color="#1d5fd0",
        slider_color_dark="#6ba2ff",
        button_primary_background_fill="#1d5fd0",
        button_primary_background_fill_hover="#174fb0",
        button_primary_background_fill_dark="#2b6be0",
        button_primary_background_fill_hover_dark="#3d7bf0",
    )


def stylesheet() -> str:
    """assets/style.css with the charts' colours of both themes before it."""
    return f":root {{{_variables(LIGHT)}}}\n.dark {{{_variables(DARK)}}}\n" + (ASSETS / "style.css").read_text("utf-8")


def script(name: str) -> str:
    return (ASSETS / f"{name}.js").read_text("utf-8")


def is_shipped(engine: Engine) -> bool:
    from pruning.models import SHIPPED

    return str(engine.vlm.model_id) == str(SHIPPED)


def padded(questions: tuple[str, ...]) -> list[str]:
    """Exactly as many as there are suggestion buttons."""
    return [*questions, *[""] * SUGGESTIONS][:SUGGESTIONS]


def _variables(palette: Palette) -> str:
    named = {f.name: getattr(palette, f.name) for f in fields(palette) if f.name not in ("series", "css")}
    named |= {f"series-{i}": colour for i, colour in enumerate(palette.series)}
    return "".join(f"--chart-{name}:{colour};" for name, colour in named.items())


PICK = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("select", { index: Number(button.dataset.index) });
});"""
EMPTY_CURVES = "Fidelity of the pruned model against tokens kept, measured on this image and question."
SHIPPED_NOTICE = (
    "This small model was trained on drawn scenes such as the examples and knows nothing of photographs. For those, "
    "start the app with a checkpoint that does: python app.py --model Qwen/Qwen2.5-VL-3B-Instruct"
)
