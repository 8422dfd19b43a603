"""The export: its button, its panel with progress, Stop and download, and its events."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.explore.handlers import Handlers
from app.explore.layout import Page
from app.export.archive import NAME, Archive, Step, Wanted, export
from app.model_pool.work import Kind, stream_work
from app.session import Session
from app.tradeoff.measure import Measured
from app.web.controls import ControlValues
from app.web.errors import owner
from app.web.events import AT_ONCE, QUIET, STOPS, STREAMED, html
from app.web.html import notice, size, waiting
from app.web.html import progress as bar
from app.web.streams import Shown
from app.web.templates import render

EXPORT = Kind("export", lambda r: r.long_work)
TIPS = {
    "#export-stop": STOPS,
}
HINT = "Overlays at full size, both figures, all numbers, settings and citations, in one ZIP"


@dataclass(frozen=True)
class Panel:
    """The components of an export."""

    button: gr.HTML
    status: gr.HTML
    stop: gr.Button
    download: gr.DownloadButton


def place_export(page: Page) -> Panel:
    """The button among the page's tools, and the panel that it opens over the page."""
    with page.tools:
        button = html(render("export.button", hint=HINT), "export", "export")
        with gr.Column(elem_id="export-panel", elem_classes="tool-panel"):
            status = html("", "export-status")
            stop = gr.Button("Stop", size="sm", elem_id="export-stop", visible=False)
            download = gr.DownloadButton(
                "Download", variant="primary", size="sm", elem_id="export-download", visible=False
            )
    return Panel(button, status, stop, download)


def wire_export(panel: Panel, handlers: Handlers, inputs: Sequence[Any]) -> None:
    """inputs: the visitor's session, and the page's settings."""
    events = Exporting(handlers, Path(panel.download.GRADIO_CACHE))
    shown = [panel.status, panel.stop, panel.download]
    panel.button.make(events.make, [handlers.page.measured, *inputs], shown, **STREAMED, **QUIET)
    panel.stop.click(events.stop, None, None, **AT_ONCE, **QUIET)


@dataclass(frozen=True)
class Exporting:
    """The event functions. folder: where files for visitors lie, and are swept from like their uploads."""

    handlers: Handlers
    folder: Path

    def make(
        self, request: gr.Request, measured: Measured | None, session: Session, *settings: Any
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Stream how far the export is into its panel, errors too, and last offer the file."""
        gone, stopping = gr.update(visible=False), gr.update(visible=True)
        last: Step | None = None

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[tuple[Any, Any, Any]]:
            nonlocal last
            setting, values = self.handlers.setting(capabilities, session, settings), ControlValues.read(settings)
            weights = (values.importance, values.diversity)
            wanted = Wanted(session, setting, weights, values.overlay, measured)
            for item in export(engine, wanted, task):
                if isinstance(item, Archive):
                    yield done(item), gone, gr.update(value=self._kept(item), visible=True)
                    return
                last = item
                yield progress(item), stopping, gone
            yield stopped(), gone, gone

        shown = Shown(
            waiting=lambda place: (progress(last, place), stopping, gone),
            stopped=lambda: (stopped(), gone, gone),
            failed=lambda problem: (stopped(problem), gone, gone),
        )
        with suppress(gr.Error):  # the panel tells
            yield from stream_work(self.handlers.models, owner(request), session.model_name, EXPORT, work, shown)

    def stop(self, request: gr.Request) -> None:
        self.handlers.models.resources.tasks.stop(owner(request), EXPORT.name)

    def _kept(self, archive: Archive) -> str:
        """Path of the file, in a folder whose name nobody can guess."""
        place = self.folder / secrets.token_hex(16)
        place.mkdir(parents=True)
        (place / NAME).write_bytes(archive.data)
        return str(place / NAME)


def progress(step: Step | None, place: int = 0) -> Markup:
    """A bar and what is made now. place: in the line where it waits now, 0 = it does not."""
    if step is None:
        return render("export.panel", told=bar(waiting(place)))
    words = waiting(place) if place else f"{step.doing} …"
    return render("export.panel", told=bar(words, "Pieces of the export", step.done, step.total))


def done(archive: Archive) -> Markup:
    """How many files in how many bytes, and which."""
    words = f"{len(archive.names)} files, {size(len(archive.data))}. The server keeps it for about an hour."
    return render("export.panel", told=render("export.done", words=words, names=archive.names))


def stopped(why: str = "") -> Markup:
    """Nothing is there to download; why, where it was not the visitor's own wish."""
    return render("export.panel", told=notice(why, "warn") or render("export.done", words="Stopped.", names=()))
