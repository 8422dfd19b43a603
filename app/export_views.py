"""How far an export is, as HTML."""

from __future__ import annotations

from app.export import Archive, Step
from app.markup import notice, size, text

TITLE = "<h2>Export</h2>"


def progress(step: Step) -> str:
    """A bar and what is made now."""
    bar = f'<progress max="{step.total}" value="{step.done}" aria-label="Pieces of the export"></progress>'
    return f'{TITLE}<p class="progress" role="status">{bar}<span>{text(step.doing)} …</span></p>'


def done(archive: Archive) -> str:
    """How many files in how many bytes, and which."""
    names = "".join(f"<li>{text(name)}</li>" for name in archive.names)
    told = f"{len(archive.names)} files, {size(len(archive.data))}. The server keeps it for about an hour."
    return f'{TITLE}<p role="status">{text(told)}</p><ul>{names}</ul>'


def stopped(why: str = "") -> str:
    """Nothing is there to download; why, where it was not the visitor's own wish."""
    return TITLE + (notice(why, "warn") if why else '<p role="status">Stopped.</p>')
