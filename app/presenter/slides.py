"""The presenter's slides: what the visitor is asking, the example under way, and its results as they come.

Knows the engine and the visitor's session, not the page. A slide is worked out by the same functions, and comes from
the same cache, as the page's own results; the page's session and controls stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.answers import reports
from app.canvas import payload as canvas_payload
from app.canvas import state as canvas_state
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Pictures
from app.examples import EXAMPLES
from app.presenter import views as presenter_views
from app.session import Session, Setting
from app.tradeoff import measure as tradeoff_measure
from pruning.drawing.charts import Chart
from pruning.drawing.palettes import PAGE

OWN = "Your image"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the view asks for.

    turn: counts the wishes of one view. place: of the slide, from 0; None = what the page shows. retention: None = the
    page's. curves: fidelity curves in the place of the plane. held: keys of the pictures that the view still has.
    """

    turn: int = 0
    place: int | None = None
    retention: float | None = None
    curves: bool = False
    held: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slide:
    """title: of the example; place: from 0, of `total`; session: its picture and question, asked of the same model."""

    title: str
    place: int
    total: int
    session: Session


def wish(data: object) -> Wish:
    """What the view said. Raises ValueError for values of the wrong kind; ranges are checked where values are used."""
    said = data if isinstance(data, dict) else {}
    turn, place, retention = said.get("turn"), said.get("place"), said.get("retention")
    held = said.get("held", [])
    good = type(turn) is int and (place is None or type(place) is int)
    good &= retention is None or type(retention) in (int, float)
    good &= isinstance(held, list) and all(isinstance(key, str) for key in held)
    if not good or not isinstance(turn, int):
        raise ValueError(f"the view asks for {said!r}: turn and place must be whole numbers, retention a number")
    return Wish(turn, place, retention, said.get("curves") is True, tuple(held))


def slide(pictures: Pictures, session: Session, place: int | None, no_clips: str = "") -> Slide:
    """One of the examples; where the page shows something else, that is a slide of its own before them. no_clips: why
    the model takes none; it is then shown their first frames.

    An example that the page shows keeps the question that was asked there. Places go round at both ends.
    """
    shown = [picture.path for picture in session.pictures]
    present = next((i for i, example in enumerate(EXAMPLES) if shown == [example.path]), None)
    titles = [example.title for example in EXAMPLES]
    before = 0
    if present is None:
        present, before, titles = 0, 1, [OWN, *titles]
    at = present if place is None else place % len(titles)
    if at != present:
        example = EXAMPLES[at - before]
        session = Session(
            session.model_name, (pictures.open(example.path, no_clips=no_clips)[0],), example.questions[:1]
        )
    return Slide(titles[at], at, len(titles), session)


def news(
    engine: Engine,
    capabilities: Capabilities,
    shown: Slide,
    setting: Setting,
    asked: Wish,
    names: Sequence[str],
    task: Task,
) -> Iterator[dict[str, Any]]:
    """A slide's results, piece by piece: the view's new properties by name.

    First the overlay, then the plane, both answers as they stream, their cost; last the fidelity curves of `names`
    and the present method, where those are asked for. Ends soon after `task` is set. Raises ValueError as `reports` and
    `sweep` do.
    """
    session = shown.session
    identity = canvas_state.identity_of(session, setting)
    key = canvas_payload.key_of(setting.asked, identity)
    about = {
        "turn": asked.turn, "title": shown.title, "place": shown.place, "total": shown.total, "key": key,
        "question": session.questions[-1] if session.questions else "", "retention": setting.retention,
        "lambda": None if setting.plan else setting.method.lambda_, "scope": setting.scope,
        "method": presenter_views.method(setting),
    }  # fmt: skip
    yield {
        **({} if key in asked.held else {"value": canvas_state.payload(engine, session, setting)}),
        "exact": canvas_state.exact(engine, session, setting),
        "told": about | presenter_views.told(None),
    }
    if not asked.curves:
        drawn = tradeoff_measure.plane_chart(tradeoff_measure.plane(engine, session, setting), PAGE)
        yield {"chart": _told(asked, drawn, "")}
    for report in reports.reports(engine, session, setting, task):
        yield {"told": about | presenter_views.told(report)}
    if not asked.curves or task.is_set():
        return
    methods, _ = tradeoff_measure.sweep_methods(
        capabilities, [*names, setting.method.name], setting, len(session.pictures)
    )
    n, here = engine.encoded(session).tokens.n, engine.budget(session, setting)
    for progress in tradeoff_measure.sweep(engine, session, methods, task, positions=setting.positions):
        if progress.points:
            drawn = tradeoff_measure.fidelity_chart(progress.points, n, here, PAGE)
            yield {"chart": _told(asked, drawn, presenter_views.measured(progress))}
        if why := tradeoff_measure.NO_CURVE.get(progress.stage):
            yield {"chart": {"turn": asked.turn, "svg": "", "summary": why, "status": ""}}


def _told(asked: Wish, chart: Chart, status: str) -> dict[str, Any]:
    return {"turn": asked.turn, "svg": chart.svg(), "summary": chart.summary, "status": status}
