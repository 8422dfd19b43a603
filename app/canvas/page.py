"""The live canvas's component."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.web import scripts, theme
from app.web.templates import render


def component(value: dict[str, Any] | None, exact: dict[str, Any] | None) -> gr.HTML:
    """The canvas. value: of `payload`; exact: of `exact_selection`, for settings that the payload does not hold."""
    return gr.HTML(
        value,
        html_template=render("canvas.component"),
        js_on_load=scripts.start("canvas"),
        elem_id="canvas",
        apply_default_css=False,
        exact=exact,
        colours=theme.painting(),
    )
