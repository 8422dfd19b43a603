"""Two buttons beside the retention slider: the fewest tokens that keep the answer, and the λ that needs fewest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.model_pool.pool import Models
from app.model_pool.work import Kind, stream_work
from app.session import Session, Setting
from app.smallest_budget import views as smallest_budget_views
from app.smallest_budget.search import Search, fewest_lambda, fewest_tokens
from app.web import updates
from app.web.errors import owner, report_errors
from app.web.events import AT_ONCE, LIGHT_WORK, QUIET, STREAMED, html
from app.web.streams import Shown

Present = Callable[[Capabilities, Session, Sequence[Any]], Setting]  # what the controls say
SEARCH = Kind("smallest budget", lambda r: r.long_work)
STILL = (gr.skip(),) * 3  # retention and weights stay where they are


@dataclass(frozen=True)
class SmallestBudgetPage:
    fewest: gr.Button
    best: gr.Button
    stop: gr.Button
    result: gr.HTML


def place_smallest_budget(budget: gr.Column) -> SmallestBudgetPage:
    """Into the retention slider's column: the buttons, and the line with what was found.

    The style sheet puts the buttons into the slider's head.
    """
    small: dict[str, Any] = {"size": "sm", "min_width": 0}
    with budget, gr.Row(elem_id="fewest"):
        fewest = gr.Button("Fewest tokens that keep the answer", **small, elem_id="fewest-tokens")
        best = gr.Button("Best λ", **small, elem_id="fewest-lambda")
        stop = gr.Button("Stop", **small, elem_id="fewest-stop")  # the style sheet shows it while a search runs
    with budget:
        found = html("", "fewest-result")
    return SmallestBudgetPage(fewest, best, stop, found)


def wire_smallest_budget(
    page: SmallestBudgetPage,
    models: Models,
    present: Present,
    session: gr.State,
    inputs: list[Any],
    sliders: tuple[gr.Slider, Sequence[gr.Slider]],
    follow: Callable[[Any], None],
) -> None:
    """inputs: what `present` reads, the session before it. sliders: retention, and the two weights."""
    events = FewestEvents(models, present)
    retention, weights = sliders
    outputs = [page.result, retention, *weights]
    for button, event in ((page.fewest, events.tokens), (page.best, events.over_lambda)):
        follow(button.click(event, inputs, outputs, **STREAMED, **QUIET))
    page.stop.click(events.stop, None, None, **AT_ONCE, **QUIET)
    session.change(lambda: "", None, page.result, **LIGHT_WORK, **QUIET)


class FewestEvents:
    """Bound to one page's models; `present` gives the setting that its controls say."""

    def __init__(self, models: Models, present: Present) -> None:
        self.models, self.present = models, present

    @report_errors
    def tokens(self, request: gr.Request, session: Session, *settings: Any) -> Iterator[tuple[Any, ...]]:
        """The fewest tokens of the present setting; the retention slider moves there."""
        yield from self._search(fewest_tokens, request, session, settings)

    @report_errors
    def over_lambda(self, request: gr.Request, session: Session, *settings: Any) -> Iterator[tuple[Any, ...]]:
        """The λ that needs fewest; the weights and the retention slider move there."""
        yield from self._search(fewest_lambda, request, session, settings)

    def stop(self, request: gr.Request) -> None:
        """Stop the search; what it knows stays."""
        self.models.resources.tasks.stop(owner(request), SEARCH.name)

    def _search(
        self, find: Callable[..., Iterator[Search]], request: gr.Request, session: Session, settings: Sequence[Any]
    ) -> Iterator[tuple[Any, ...]]:
        last: Search | None = None

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[tuple[Any, ...]]:
            nonlocal last
            setting = self.present(capabilities, session, settings)
            for last in find(engine, session, setting, task):
                yield smallest_budget_views.search(last), *STILL
            if last is not None and last.best is not None:
                yield found(last, last.best, setting)

        def found(search: Search, best: Setting, setting: Setting) -> tuple[Any, ...]:
            value, weights = best.method.lambda_, STILL[1:]
            if value is not None and value != setting.method.lambda_:
                weights = (round(value, 6), round(1 - value, 6))
            return smallest_budget_views.search(search), updates.retention(best.retention), *weights

        shown = Shown(
            waiting=lambda place: (smallest_budget_views.search(last, place), *STILL),
            stopped=lambda: (smallest_budget_views.stopped(last), *STILL),
            failed=lambda problem: (smallest_budget_views.search(last, problem=problem), *STILL),
        )
        yield from stream_work(self.models, owner(request), session.model_name, SEARCH, work, shown)
