"""What Gradio's components hand over: files as they were uploaded, unopened and never fetched from elsewhere, and the
number of a slider in its range, also while another is being typed.

All of it is set on Gradio's classes. Any update of a component, even one that changes nothing, makes Gradio build that
visitor's component anew from its class, so what is set on an instance is lost; and for a subclass Gradio writes a stub
file beside this one.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.blocks import Block

from app.gate import uploads_only


def image_input(value: str | None = None, **options: Any) -> gr.Image:
    """An image component that hands over the path of the file; what it holds is checked by `pruning.images` alone."""
    return gr.Image(value, type="filepath", **options)


def files_input(**options: Any) -> gr.File:
    """A component for several files that hands over their paths, one bad file among them too."""
    return gr.File(file_count="multiple", **options)


def _path(_component: gr.Image, payload: Any) -> str | None:
    return payload.path if payload is not None else None


def _paths(_component: gr.File, payload: Any) -> list[str]:
    return [file.path for file in payload] if payload is not None else []


def _in_range(component: gr.Slider, payload: Any) -> Any:
    if isinstance(payload, int | float):
        return min(component.maximum, max(component.minimum, payload))
    return payload  # no number: the values' own checks say so


gr.Slider.preprocess = _in_range  # type: ignore[method-assign]
gr.Image.preprocess = _path  # type: ignore[method-assign, assignment]
gr.File.preprocess = _paths  # type: ignore[method-assign, assignment]
Block.async_move_resource_to_block_cache = uploads_only(  # type: ignore[method-assign]
    Block.async_move_resource_to_block_cache
)
