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
from app.smallest_budget.search import Search, find_budget, find_lambda
from app.web import updates
from app.web.controls import Present
from app.web.errors import owner, report_errors
from app.web.events import AT_ONCE, LIGHT_WORK, QUIET, STOPS, STREAMED, html
from app.web.streams import Shown

SEARCH = Kind("smallest budget", lambda r: r.long_work)
STILL = (gr.skip(),) * 3  # retention and weights stay where they are
TIPS = {
    "#fewest-tokens": "Look for the smallest share of tokens at which the answer stays the same",
    "#fewest-lambda": "Look for the λ that keeps the answer with the fewest tokens",
    "#fewest-stop": STOPS,
}


@dataclass(frozen=True)
class SmallestBudgetPage:
    find: gr.Button
    best: gr.Button
    stop: gr.Button
    result: gr.HTML


def place_smallest_budget(budget: gr.Column) -> SmallestBudgetPage:
    """Into the retention slider's column: the buttons, and the line with what was found.

    The style sheet puts the buttons into the slider's head.
    """
    small: dict[str, Any] = {"size": "sm", "min_width": 0}
    with budget, gr.Row(elem_id="fewest"):
        find = gr.Button("Fewest tokens that keep the answer", **small, elem_id="fewest-tokens")
        best = gr.Button("Best λ", **small, elem_id="fewest-lambda")
        stop = gr.Button("Stop", **small, elem_id="fewest-stop")  # the style sheet shows it while a search runs
    with budget:
        result = html("", "fewest-result")
    return SmallestBudgetPage(find, best, stop, result)


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
    events = SmallestBudgetEvents(models, present)
    retention, weights = sliders
    outputs = [page.result, retention, *weights]
    for button, event in ((page.find, events.tokens), (page.best, events.over_lambda)):
        follow(button.click(event, inputs, outputs, **STREAMED, **QUIET))
    page.stop.click(events.stop, None, None, **AT_ONCE, **QUIET)
    session.change(lambda: "", None, page.result, **LIGHT_WORK, **QUIET)


class SmallestBudgetEvents:
    """Bound to one page's models; `present` gives the setting that its controls say."""

    def __init__(self, models: Models, present: Present) -> None:
        self.models, self.present = models, present

    @report_errors
    def tokens(self, request: gr.Request, session: Session, *settings: Any) -> Iterator[tuple[Any, ...]]:
        """The smallest budget of the present setting; the retention slider moves there."""
        yield from self._search(find_budget, request, session, settings)

    @report_errors
    def over_lambda(self, request: gr.Request, session: Session, *settings: Any) -> Iterator[tuple[Any, ...]]:
        """The λ that needs fewest; the weights and the retention slider move there."""
        yield from self._search(find_lambda, request, session, settings)

    def stop(self, request: gr.Request) -> None:
        """Stop the search; what it knows stays."""
        self.models.resources.tasks.stop(owner(request), SEARCH.name)

    def _search(
        self, search: Callable[..., Iterator[Search]], request: gr.Request, session: Session, settings: Sequence[Any]
    ) -> Iterator[tuple[Any, ...]]:
        last: Search | None = None

        def work(engine: Engine, capabilities: Capabilities, task: Task) -> Iterator[tuple[Any, ...]]:
            nonlocal last
            setting = self.present(capabilities, session, settings)
            for last in search(engine, session, setting, task):
                yield smallest_budget_views.search(last), *STILL
            if last is not None and last.best is not None:
                yield found(last, last.best, setting)

        def found(step: Search, best: Setting, setting: Setting) -> tuple[Any, ...]:
            value, weights = best.method.lambda_, STILL[1:]
            if value is not None and value != setting.method.lambda_:
                weights = (round(value, 6), round(1 - value, 6))
            return smallest_budget_views.search(step), updates.retention(best.retention), *weights

        shown = Shown(
            waiting=lambda place: (smallest_budget_views.search(last, place), *STILL),
            stopped=lambda: (smallest_budget_views.stopped(last), *STILL),
            failed=lambda problem: (smallest_budget_views.search(last, problem=problem), *STILL),
        )
        yield from stream_work(self.models, owner(request), session.model_name, SEARCH, work, shown)
