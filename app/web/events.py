"""What every part of the page is built with: how its events are queued, and pieces of HTML that views write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.web import scripts

# Events of one of Gradio's queues wait for each other, and nobody is told. So an event that may take its time begins at
# once, and its work waits in one of the app's own lines, which tell its place and hear of Stop.
#
# What a visitor did last is never lost: while an event is being answered, the last of those that come meanwhile waits.
# Gradio's own rule, "once", drops them. But what waits gets the present inputs and the old event's data: see `told`.
# When its turn comes, Gradio sends the whole event again, to all that hang on it: two that wait on one event would call
# each other for ever, so at most one of those that hang on an event waits, and the others come after it with `then`.
_LAST = {"trigger_mode": "always_last"}
STREAMED: dict[str, Any] = {"concurrency_id": "streamed", "concurrency_limit": None, **_LAST}
THREADS = 320  # of the server: an event that streams has one to its end, and the lines bound how many there are
# A program's call may have to load its model first: visitors' answers do not wait for that in one queue.
PROGRAMS: dict[str, Any] = {"concurrency_id": "programs", "concurrency_limit": 4}
LIGHT_WORK: dict[str, Any] = {"concurrency_id": "overlay", "concurrency_limit": 4, **_LAST}
ONCE = {"trigger_mode": "once"}  # instead, where a second press would do it twice
LOADING: dict[str, Any] = {"concurrency_id": "loading", "concurrency_limit": 16, "trigger_mode": "multiple"}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
STOPS = "Stop what is running; what is there so far stays"  # the tooltip of every Stop
AT_ONCE: dict[str, Any] = {"queue": False, "trigger_mode": "multiple"}


_HEARING = threading.Lock()


@dataclass
class Told:
    """What a component of ours said last: `data`, at a moment of the page's clock that scripts.start puts in.

    Two events may overtake each other on their way, so the newest counts, not the last to arrive. One value per visitor
    for good, which is written in place: of states that are read, and written at an event's end, the slower would win.
    """

    at: float = 0.0
    data: dict[str, Any] = field(default_factory=dict)

    def hear(self, event: gr.EventData) -> bool:
        """Whether the event is the newest so far; then its data is kept."""
        data = event._data if isinstance(event._data, dict) else {}
        at = data.get("at")
        with _HEARING:
            if not isinstance(at, (int, float)) or not at >= self.at:  # nor NaN
                return False
            self.at, self.data = at, data
        return True


def told(trigger: Callable[..., Any]) -> tuple[Any, gr.State]:
    """An event of a component of ours, and the state that holds what was `Told` last: for what comes after it."""
    said = gr.State(Told())
    return trigger(_hear, said, None, **AT_ONCE, **QUIET), said


def chosen(control: Any) -> Callable[..., Any]:
    """The event of a visitor's choice, once for each; asked for once for a control.

    Of a menu Gradio tells twice that a line was clicked, and as often that it was left with no choice: menus.js, which
    sees what a visitor does, presses a button that nobody sees.
    """
    if not isinstance(control, gr.Dropdown):
        event: Callable[..., Any] = control.input
        return event
    pressed: Callable[..., Any] = gr.Button("", visible="hidden", elem_id=f"{control.elem_id}-chosen").click
    return pressed


def _hear(event: gr.EventData, said: Told) -> None:
    said.hear(event)


def html(value: str, name: str, script: str | None = None) -> gr.HTML:
    """A piece of the page that a view writes. `script`: its module of assets/scripts/."""
    runs = scripts.start(script) if script else None
    return gr.HTML(value, elem_id=name, js_on_load=runs, apply_default_css=False, padding=False)
