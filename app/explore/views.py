"""Images, charts, menus and progress as HTML fragments: no Gradio, no model, no decision.

All text from outside goes through `text`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.engine.capabilities import REFUSED
from app.model_pool.load_job import Loading
from app.model_pool.pool import Entry
from app.web.html import duration, quantity, size, text, to_come
from pruning.drawing import overlays as draw


def strip(pictures: Sequence[NDArray[np.uint8]]) -> str:
    """The images of a question with several, each with a button that removes it."""
    if len(pictures) < 2:
        return ""
    items = "".join(
        f'<li><img alt="Image {place}" src="{draw.data_url(picture)}"><span aria-hidden="true">{place}</span>'
        f'<button type="button" data-index="{place - 1}" aria-label="Remove image {place}" title="Remove">×</button>'
        "</li>"
        for place, picture in enumerate(pictures, start=1)
    )
    return f'<ol class="strip" aria-label="Images of this question">{items}</ol>'


def thumbnails(entries: Sequence[tuple[str, NDArray[np.uint8]]]) -> str:
    """A row of pictures to choose from; `entries` are (name, image)."""
    buttons = "".join(
        f'<button type="button" data-index="{i}" title="{text(name)}">'
        f'<img alt="Example: {text(name)}" src="{draw.data_url(image)}"></button>'
        for i, (name, image) in enumerate(entries)
    )
    return f'<div class="thumbs" role="group" aria-label="Examples">{buttons}</div>'


def loading(job: Loading) -> str:
    """How far a model's load is: stage, share where it is known, seconds so far and to come."""
    share = "" if job.share is None else f' value="{job.share:.3f}"'
    percent = "" if job.share is None else f" {job.share:.0%}"
    words = f"{job.title}: {job.stage}{percent} · {duration(job.seconds)}{to_come(job.pace)}"
    return (
        f'<p class="progress" role="status"><progress max="1"{share} aria-label="Loading"></progress>'
        f'<span>{text(words)}</span><button type="button" title="Stop loading: the page keeps the model that it has">'
        "Stop</button></p>"
    )


def header(title: str, device: str, dtype: str, memory: int, about: str) -> str:
    """Which model runs where."""
    return (
        f'<p class="model" title="{text(about)}"><b>{text(title)}</b>'
        f"<span>{text(device)} · {text(dtype)} · {text(size(memory))} held</span></p>"
    )


def model_line(entry: Entry) -> str:
    """One line of the model menu: title, parameters, download, memory, licence, and whether it is there or why not."""
    listed = entry.listed
    parts = [listed.title]
    if listed.parameters:
        parts.append(quantity(listed.parameters, ["", "k", "M", "B"], 1000))
    if entry.download and not entry.loaded:
        parts.append(f"{size(entry.download)} to download")
    parts.append("size not known yet" if entry.need is None else f"{size(entry.need)} of memory")
    if listed.licence:
        parts.append(listed.licence)
    if entry.loaded:
        parts.append("✓ loaded")
    line = " · ".join(parts)
    return f"{REFUSED} {line} · {entry.problem}" if entry.problem else line


def photographs(entry: Entry) -> str:
    """What the button says that goes over to a model for photographs."""
    what = f"{size(entry.download)} to download, fits" if entry.download else "on this disk, fits"
    licence = f" · {entry.listed.note or entry.listed.licence}" if entry.listed.licence else ""
    return f"{entry.listed.title} reads photographs · {'loaded' if entry.loaded else what}{licence}"


def about(words: str, refused: bool = False) -> str:
    """What is to be said of the chosen method."""
    kind = "about-method warn" if refused else "about-method"
    return f'<p class="{kind}">{text(words)}</p>' if words else ""
