"""How far an export is, as HTML."""

from __future__ import annotations

from app.export import Archive, Step
from app.web.html import notice, size, text, waiting

TITLE = "<h2>Export</h2>"


def progress(step: Step | None, place: int = 0) -> str:
    """A bar and what is made now. place: in the line where it waits now, 0 = it does not."""
    if step is None:
        return f'{TITLE}<p class="progress" role="status">{waiting(place)}</p>'
    bar = f'<progress max="{step.total}" value="{step.done}" aria-label="Pieces of the export"></progress>'
    words = waiting(place) if place else f"{text(step.doing)} …"
    return f'{TITLE}<p class="progress" role="status">{bar}<span>{words}</span></p>'


def done(archive: Archive) -> str:
    """How many files in how many bytes, and which."""
    names = "".join(f"<li>{text(name)}</li>" for name in archive.names)
    told = f"{len(archive.names)} files, {size(len(archive.data))}. The server keeps it for about an hour."
    return f'{TITLE}<p role="status">{text(told)}</p><ul>{names}</ul>'


def stopped(why: str = "") -> str:
    """Nothing is there to download; why, where it was not the visitor's own wish."""
    return TITLE + (notice(why, "warn") if why else '<p role="status">Stopped.</p>')
