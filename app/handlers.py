"""Event functions: values of components in, values for components out. All decisions lie in the engine and beside it.

Every ValueError becomes a message on the page; anything else is logged by its cause and shown as one line. No log line
holds a question, an image or a file name.
"""

from __future__ import annotations

import functools
import inspect
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app import reports, tradeoff, views
from app.controls import Board
from app.device import DeviceFullError
from app.engine import Engine, checked_question
from app.examples import ANY_IMAGE, EXAMPLES
from app.session import Session
from pruning.charts import PAGE
from pruning.pareto import lambda_of

LOG = logging.getLogger("idpruner.app")
SUGGESTIONS = 4


def guarded(event: Callable[..., Any]) -> Callable[..., Any]:
    """Turn exceptions of an event function, generator or not, into messages for its visitor."""

    @functools.wraps(event)
    def plain(*values: Any, **named: Any) -> Any:
        try:
            return event(*values, **named)
        except Exception as error:
            raise message_for(error) from None

    @functools.wraps(event)
    def stream(*values: Any, **named: Any) -> Iterator[Any]:
        try:
            yield from event(*values, **named)
        except Exception as error:
            raise message_for(error) from None

    return stream if inspect.isgeneratorfunction(event) else plain


def message_for(error: Exception) -> gr.Error:
    """What the visitor reads. Expected errors carry their own words; the others are named by kind and logged."""
    if isinstance(error, gr.Error):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "an unknown place"
    LOG.warning("%s in %s", type(error).__name__, place)
    if isinstance(error, (ValueError, DeviceFullError, TimeoutError)):
        return gr.Error(str(error), title="Please check", print_exception=False)
    LOG.error("unexpected %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    told = f"Something failed inside the app ({type(error).__name__}). Try again; the server's log names the place."
    return gr.Error(told, title="Error", print_exception=False)


class Handlers:
    """The event functions of one page, bound to its engine and controls.

    `settings` is always (method, style, importance weight, diversity weight, retention, *knob values).
    """

    def __init__(self, engine: Engine, board: Board) -> None:
        self.engine, self.board = engine, board

    # Image and question

    @guarded
    def upload(self, path: str | None) -> tuple[Any, ...]:
        """A new image from the visitor: session, note, suggested questions. Removing one changes nothing else."""
        if path is None:
            return (gr.skip(),) * (2 + SUGGESTIONS)
        session, notes = self.engine.open(path)
        self.engine.encoded(session)
        return session, views.notice(" ".join(notes)), *suggestions(ANY_IMAGE)

    @guarded
    def example(self, event: gr.EventData) -> tuple[Any, ...]:
        """A picked example: its image, first question, session, suggestions."""
        chosen = EXAMPLES[int((event._data or {}).get("index", 0)) % len(EXAMPLES)]
        session, _ = self.engine.open(chosen.path)
        self.engine.encoded(session)
        return chosen.path, chosen.questions[0], session, "", *suggestions(chosen.questions)

    @guarded
    def hint(self, question: str) -> str:
        """Names the words that the model cannot know."""
        unknown = self.engine.unknown_words(question or "")[:6]
        if not unknown:
            return ""
        return views.notice(f"Not in this model's vocabulary: {', '.join(unknown)}. It will guess.", "warn")

    # Overlay

    @guarded
    def method(self, name: str) -> tuple[Any, ...]:
        """Show the chosen method's knobs; weight sliders rest where it has no λ."""
        active = gr.update(interactive=self.board.has_lambda(name))
        return active, active, *self.board.visibility(name)

    @guarded
    def overlay(self, session: Session | None, question: str, *settings: Any) -> tuple[str, str]:
        """Overlay and readout of the present setting: a slice of a cached order, and one drawing."""
        method, style, retention = self._setting(settings)
        session = required(session)
        question = checked_question(question) if "question" in method.needs else ""
        image = self.engine.overlay(session, question, method, retention, style)
        budget, n = self.engine.budget(session, retention), self.engine.encoded(session).tokens.n
        return views.overlay(image, style, budget, n), views.readout(budget, n, lambda_of(method))

    # Answers

    @guarded
    def ask(self, request: gr.Request, session: Session | None, question: str, *settings: Any) -> Iterator[str]:
        """Stream both answers and what they cost."""
        method, _, retention = self._setting(settings)
        task = self.engine.tasks.begin(owner(request), "answer")
        try:
            for report in reports.reports(self.engine, required(session), question, method, retention, task):
                yield views.report(report)
        finally:
            task.set()

    def interrupt(self, request: gr.Request) -> None:
        """What is being answered is out of date. Runs outside the queue: the next answer waits for this one's end."""
        self.engine.tasks.stop(owner(request), "answer")

    def stop(self, request: gr.Request) -> None:
        """Stop all that this visitor has running; what is there stays on the page."""
        self.engine.tasks.stop(owner(request))

    # Trade-off

    @guarded
    def plane(self, session: Session | None, question: str, *settings: Any) -> str:
        """The I-H plane at the present budget."""
        method, _, retention = self._setting(settings)
        points = tradeoff.plane(self.engine, required(session), checked_question(question), method, retention)
        return views.chart(tradeoff.plane_chart(points, PAGE))

    @guarded
    def curves(
        self, request: gr.Request, session: Session | None, question: str, names: Sequence[str], *settings: Any
    ) -> Iterator[tuple[str, str]]:
        """Measure the fidelity curves, points appearing as they come."""
        method, _, retention = self._setting(settings)
        session = required(session)
        methods = tradeoff.sweep_methods(self.engine, names, method)
        here, n = self.engine.budget(session, retention), self.engine.encoded(session).tokens.n
        task = self.engine.tasks.begin(owner(request), "sweep")
        try:
            for progress in tradeoff.sweep(self.engine, session, question, methods, task):
                drawn = tradeoff.fidelity_chart(progress.points, n, here, PAGE) if progress.points else None
                yield views.chart(drawn, "Measuring …"), views.progress(progress)
        finally:
            task.set()

    @guarded
    def load(
        self, event: gr.EventData, name: str, importance: float, diversity: float, retention: float
    ) -> tuple[Any, ...]:
        """A point of a chart was clicked: its setting goes into the controls."""
        setting = event._data or {}
        name = setting.get("method", name) if setting.get("method") in self.board.methods else name
        value = setting.get("mmr_lambda")
        if isinstance(value, (int, float)) and 0 <= value <= 1:
            importance, diversity = round(value, 2), round(1 - value, 2)
        kept = setting.get("retention")
        if isinstance(kept, (int, float)) and 0 < kept <= 1:
            retention = kept
        active = self.board.has_lambda(name)
        sliders = [gr.update(value=value, interactive=active) for value in (importance, diversity)]
        return name, *sliders, retention, *self.board.visibility(name)

    def _setting(self, settings: Sequence[Any]) -> tuple[Any, str, Any]:
        name, style, importance, diversity, retention, *values = settings
        return self.board.method(name, importance, diversity, values), style, retention


def suggestions(questions: Sequence[str]) -> list[Any]:
    """Updates of the suggestion buttons; those without a question are hidden."""
    shown = [gr.update(value=question, visible=True) for question in questions[:SUGGESTIONS]]
    return shown + [gr.update(visible=False)] * (SUGGESTIONS - len(shown))


def owner(request: gr.Request | None) -> str:
    """Whose work this is: the browser tab's session."""
    return str(request.session_hash) if request is not None else ""


def required(session: Session | None) -> Session:
    if session is None:
        raise ValueError("There is no image: upload one, paste one, or pick an example")
    return session
