"""The export: its button, its panel with progress, Stop and download, and its events."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import export_views
from app.export import NAME, Archive, Step, Wanted, export
from app.handlers import Handlers
from app.layout import Page
from app.session import Session
from app.tradeoff.measure import Measured
from app.web.errors import owner
from app.web.events import AT_ONCE, LAST, QUIET, STREAMED, html
from app.web.streams import Shown, stream

KIND = "export"  # of its tasks
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
        button = html(f'<button type="button" title="{HINT}">Export</button>', "export", "export")
        with gr.Column(elem_id="export-panel", elem_classes="tool-panel"):
            status = html("", "export-status")
            stop = gr.Button("Stop", size="sm", elem_id="export-stop", visible=False)
            download = gr.DownloadButton(
                "Download", variant="primary", size="sm", elem_id="export-download", visible=False
            )
    return Panel(button, status, stop, download)


def wire_export(panel: Panel, handlers: Handlers, measured: gr.State, inputs: Sequence[Any]) -> None:
    """inputs: the visitor's session, and the page's settings. measured: the fidelity curves on the page."""
    events = Exporting(handlers, Path(panel.download.GRADIO_CACHE))
    shown = [panel.status, panel.stop, panel.download]
    panel.button.make(events.make, [measured, *inputs], shown, **LAST, **STREAMED, **QUIET)
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
        models, visitor, gone = self.handlers.models, owner(request), gr.update(visible=False)
        task, stopping = models.resources.tasks.begin(visitor, KIND), gr.update(visible=True)
        last: Step | None = None

        def work() -> Iterator[tuple[Any, Any, Any]]:
            nonlocal last
            _, style, _, importance, diversity, *_ = settings
            with models.use(session.model, visitor) as (engine, offer):
                setting = self.handlers.setting(offer, session, settings)
                wanted = Wanted(session, setting, (importance, diversity), style, measured)
                for item in export(engine, wanted, task):
                    if isinstance(item, Archive):
                        yield export_views.done(item), gone, gr.update(value=self._kept(item), visible=True)
                        return
                    last = item
                    yield export_views.progress(item), stopping, gone
            yield export_views.stopped(), gone, gone

        shown = Shown(
            waiting=lambda place: (export_views.progress(last, place), stopping, gone),
            stopped=lambda: (export_views.stopped(), gone, gone),
            failed=lambda problem: (export_views.stopped(problem), gone, gone),
        )
        with suppress(gr.Error):  # the panel tells
            yield from stream(task, models.resources.long_work, work, shown)

    def stop(self, request: gr.Request) -> None:
        self.handlers.models.resources.tasks.stop(owner(request), KIND)

    def _kept(self, archive: Archive) -> str:
        """Path of the file, in a folder whose name nobody can guess."""
        place = self.folder / secrets.token_hex(16)
        place.mkdir(parents=True)
        (place / NAME).write_bytes(archive.data)
        return str(place / NAME)
