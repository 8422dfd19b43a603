"""The named endpoints on the page: components that nobody sees, so that files go through the same checks as an upload.

Every value has a JSON schema, which the API page and the MCP tools show.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.api import results as api_results
from app.api.compare import SCHEMA
from app.api.endpoints import ABOUT, WAYS, Api
from app.engine.resources import USUAL
from app.web.events import PROGRAMS
from app.web.gradio_patches import files_input, image_input
from pruning.grids import SCOPES
from pruning.models.values import POSITIONS
from pruning.runnable import REGISTERED

NUMBER, STRING = {"type": "number"}, {"type": "string"}
# What the API page's snippets are filled with, where Gradio's own examples would be refused: an address is not fetched.
EXAMPLES: Mapping[str, Any] = {
    "image": {"path": "picture.png", "url": "picture.png", "meta": {"_type": "gradio.FileData"}},
    "question": "what color is the star?",
    "methods": ["idpruner", "random"],
    "token": 0,
}
KNOBS = {"type": "object", "additionalProperties": {"anyOf": [NUMBER, STRING]}}


def endpoints(api: Api, method: str, weights: tuple[float, float], retention: float) -> None:
    """Every endpoint under its own name. The other values are what a caller gets who leaves them out."""
    models = list(api.models.allowed)
    known = {"type": "string", "enum": list(REGISTERED)}
    with gr.Column(visible=False):
        inputs = {
            "image": image_input(label="image"),
            "question": gr.Textbox(label="question"),
            "method": _typed(gr.Textbox(method, label="method"), known),
            "importance": _typed(gr.Number(weights[0], label="importance"), NUMBER | {"minimum": 0}),
            "diversity": _typed(gr.Number(weights[1], label="diversity"), NUMBER | {"minimum": 0}),
            "retention": _typed(
                gr.Number(retention, label="retention"), NUMBER | {"exclusiveMinimum": 0, "maximum": 1}
            ),
            "knobs": _typed(gr.JSON({}, label="knobs"), KNOBS),
            "others": _typed(gr.JSON([], label="others"), SCHEMA),
            "token": _typed(gr.Number(label="token"), {"type": "integer", "minimum": 0}),
            "concurrency": _typed(
                gr.JSON([], label="concurrency"), {"type": "array", "items": {"type": "integer", "minimum": 1}}
            ),
            "way": _typed(gr.Textbox("", label="way"), {"type": "string", "enum": list(WAYS)}),
            "methods": _typed(gr.JSON([], label="methods"), {"type": "array", "items": known}),
            "model": _typed(gr.Textbox(models[0], label="model"), {"type": "string", "enum": models}),
            "more_images": files_input(label="more_images"),
            "per": _typed(gr.Textbox(SCOPES[0], label="per"), {"type": "string", "enum": list(SCOPES)}),
            "plan": gr.Textbox(label="plan"),
            "fps": _typed(gr.Number(USUAL.rate, label="fps"), NUMBER | {"exclusiveMinimum": 0}),
            "max_frames": _typed(gr.Number(USUAL.frames, label="max_frames"), {"type": "integer", "minimum": 1}),
            "positions": _typed(
                gr.Textbox(POSITIONS[0], label="positions"), {"type": "string", "enum": list(POSITIONS)}
            ),
        }
        for name, component in inputs.items():
            _typed(component, component.api_info() | {"additional_description": ABOUT[name]})
            if name in EXAMPLES:
                component.example_payload = functools.partial(EXAMPLES.get, name)
        for endpoint in (
            api.select,
            api.answer,
            api.pareto,
            api.compare,
            api.dominance,
            api.inspect,
            api.pays,
            api.why,
            api.recipe,
            api.certificate,
        ):
            result = _typed(gr.JSON(label="result"), api_results.schema(endpoint.result))
            about = {"api_name": endpoint.__name__, "api_description": endpoint.about}
            gr.Button().click(endpoint, [inputs[name] for name in endpoint.names], result, **about, **PROGRAMS)


def _typed(component: Any, schema: dict[str, Any]) -> Any:
    """The component with this schema for its value. On the instance: for a subclass, Gradio writes a stub file."""
    component.api_info = lambda: schema
    return component
