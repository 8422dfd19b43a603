"""What stands between an event function and its visitor: exceptions become messages, and work knows whose it is.

Every ValueError becomes a message on the page; anything else is logged by its cause and shown as one line. No log line
holds a question, an image or a file name.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app.engine.device import DeviceFullError, DroppedError
from pruning.text import printable

LOG = logging.getLogger("idpruner.app")
ONCE = 5.0  # seconds in which a visitor is told the same thing once: one change on the page starts several events
_told: dict[tuple[str, str], float] = {}  # (owner, message) -> when


def report_errors(event: Callable[..., Any]) -> Callable[..., Any]:
    """Turn exceptions of an event function, generator or not, into messages for its visitor, each shown once."""

    @functools.wraps(event)
    def plain(*values: Any, **named: Any) -> Any:
        try:
            return event(*values, **named)
        except Exception as error:
            raise _once(message_for(error), values) from None

    @functools.wraps(event)
    def stream(*values: Any, **named: Any) -> Iterator[Any]:
        try:
            yield from event(*values, **named)
        except Exception as error:
            raise _once(message_for(error), values) from None

    return stream if inspect.isgeneratorfunction(event) else plain


def _once(message: gr.Error, values: Sequence[Any]) -> gr.Error:
    """The message, invisible where the visitor among the event's values was told it a moment ago."""
    request = next((value for value in values if isinstance(value, gr.Request)), None)
    if request is None:
        return message
    now, key = time.monotonic(), (owner(request), message.message)
    for old in [old for old, when in list(_told.items()) if now - when >= ONCE]:
        _told.pop(old, None)
    message.visible = message.visible and key not in _told
    _told.setdefault(key, now)
    return message


def message_for(error: Exception) -> gr.Error:
    """What the visitor reads. Expected errors carry their own words; the others are named by kind and logged."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, DroppedError):  # they pressed Stop, and know it
        return gr.Error("Stopped", visible=False, print_exception=False)
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "an unknown place"
    LOG.warning("%s in %s", type(error).__name__, place)
    if isinstance(error, (ValueError, DeviceFullError, TimeoutError)):
        return gr.Error(printable(str(error)), title="Please check", print_exception=False)
    LOG.error("unexpected %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    words = f"Something failed inside the app ({type(error).__name__}). Try again; the server's log names the place."
    return gr.Error(words, title="Error", print_exception=False)


def owner(request: gr.Request | None) -> str:
    """Whose work this is: the browser tab's session."""
    return str(request.session_hash) if request is not None else ""
