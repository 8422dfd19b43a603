"""Images, charts, menus and progress as HTML fragments: no Gradio, no model, no decision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from app.engine.capabilities import REFUSED
from app.model_pool.load_job import Loading
from app.model_pool.pool import Entry
from app.web.html import duration, quantity, size, to_come
from app.web.templates import render
from pruning.drawing import overlays as draw
from pruning.video import Progress


def strip(pictures: Sequence[NDArray[np.uint8]]) -> Markup:
    """The images of a question with several, each with a button that removes it."""
    if len(pictures) < 2:
        return Markup()
    return render("explore.strip", pictures=[draw.data_url(picture) for picture in pictures])


def reading(found: Progress) -> Markup:
    """How far the reading of a clip is."""
    words = f"Reading the clip: {found.taken} frame{'s' * (found.taken != 1)} so far"
    return render("explore.reading", words=words, share=None if found.share is None else f"{found.share:.3f}")


def thumbnails(entries: Sequence[tuple[str, NDArray[np.uint8], bool]]) -> Markup:
    """A row of pictures to choose from; `entries` are (name, image, whether it is a clip)."""
    return render("explore.thumbnails", entries=[(name, draw.data_url(image), clip) for name, image, clip in entries])


def loading(job: Loading) -> Markup:
    """How far a model's load is: stage, share where it is known, seconds so far and to come."""
    percent = "" if job.share is None else f" {job.share:.0%}"
    words = f"{job.title}: {job.stage}{percent} · {duration(job.seconds)}{to_come(job.pace)}"
    return render("explore.loading", words=words, share=None if job.share is None else f"{job.share:.3f}")


def header(title: str, device: str, dtype: str, memory: int, about: str) -> Markup:
    """Which model runs where."""
    facts = f"{device} · {dtype} · {size(memory)} held"
    return render("explore.header", title=title, facts=facts, about=about)


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


def about(words: str, refused: bool = False) -> Markup:
    """What is to be said of the chosen method."""
    return render("explore.about", words=words, refused=refused) if words else Markup()
