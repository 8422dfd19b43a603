"""What Gradio's components hand over: files as they were uploaded, unopened and never fetched from elsewhere, and the
number of a slider in its range, also while another is being typed.

`apply` sets all of it on Gradio's classes. Any update of a component, even one that changes nothing, makes Gradio build
that visitor's component anew from its class, so what is set on an instance is lost; and for a subclass Gradio writes a
stub file beside this one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.blocks import Block

from app.web.errors import message_for
from app.web.request_limits import uploads_only


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


def _told(move: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Gradio's function that gets hold of the files in a component's data. What it raises for a path that no upload
    has, or that no file can have, it tells nobody: that becomes the visitor's message.
    """

    async def told(data: Any, block: Any, *, check_in_upload_folder: bool = False, **options: Any) -> Any:
        try:
            return await move(data, block, check_in_upload_folder=check_in_upload_folder, **options)
        except (ValueError, OSError) as error:
            if isinstance(error, gr.Error) or not check_in_upload_folder:  # told already, or the app's own file
                raise
            words = "A file that is named was not uploaded here: upload it, and name the path that this gives"
            raise message_for(ValueError(words)) from error

    return told


_move_resource, _move_files = Block.async_move_resource_to_block_cache, processing_utils.async_move_files_to_cache


def apply() -> None:
    """Set all of it, for this whole process; a second call changes nothing. Before the page's components are built."""
    gr.Slider.preprocess = _in_range  # type: ignore[method-assign]
    gr.Image.preprocess = _path  # type: ignore[method-assign, assignment]
    gr.File.preprocess = _paths  # type: ignore[method-assign, assignment]
    Block.async_move_resource_to_block_cache = uploads_only(_move_resource)  # type: ignore[method-assign]
    processing_utils.async_move_files_to_cache = _told(_move_files)
