"""The live canvas's component."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.web import theme
from app.web.templates import render

SCRIPTS = ("canvas-model", "canvas-paint", "canvas-drag", "canvas")


def component(value: dict[str, Any] | None, exact: dict[str, Any] | None) -> gr.HTML:
    """The canvas. value: of `payload`; exact: of `exact_selection`, for settings that the payload does not hold."""
    return gr.HTML(
        value,
        html_template=render("canvas.component"),
        js_on_load="\n".join([theme.painting(), *map(theme.script, SCRIPTS)]),
        elem_id="canvas",
        apply_default_css=False,
        exact=exact,
    )
