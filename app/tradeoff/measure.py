"""The two Pareto views of the images and the first question: the I-H plane at once, fidelity curves point by point.

Knows the engine, not the page. Results are cached by content; a sweep that was stopped keeps what it has on the page
only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app.answers.answering import Asked, answers
from app.engine import remote
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.pace import Pace
from app.session import Session, Setting
from pruning import choosing, runnable
from pruning.budget import keep_count
from pruning.drawing import charts
from pruning.drawing.palettes import Palette
from pruning.evaluation.fidelity import FidelityPoint, fidelity_sweep
from pruning.evaluation.lives import survivors
from pruning.evaluation.plane import (
    RETENTIONS,
    PlanePoint,
    front,
    nowhere,
    plane_methods,
    plane_sweep,
    slots,
    survivors_point,
)
from pruning.evaluation.verdict import NO_MEANING, NO_REFERENCE, is_empty
from pruning.importance import SIGNALS, raw_importance, signals_for
from pruning.params import SOURCE
from pruning.runnable import REGISTERED, Started
from pruning.signals import ASKING

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.models import Answer, Encoded, Kept
    from pruning.models.values import Positions
    from pruning.tokens import VisualTokens


NO_CURVE = {"empty": NO_REFERENCE, "outside": NO_MEANING}
"""Stage of a measurement that ends without a curve -> why."""


@dataclass(frozen=True)
class Progress:
    """A fidelity sweep under way: the points so far, how many there will be, seconds used, and why points are left
    out.
    """

    points: tuple[FidelityPoint, ...]
    total: int
    seconds: float
    stage: str  # "answering", "sweeping", "done", "stopped"; of NO_CURVE: there is none
    left_out: tuple[str, ...] = ()

    @property
    def pace(self) -> Pace:
        return Pace(self.seconds, len(self.points), self.total)


@dataclass(frozen=True)
class Measured:
    """The fidelity curves that a page shows, what they are about, and how many points were meant."""

    session: Session
    methods: tuple[choosing.Asked, ...]
    points: tuple[FidelityPoint, ...]
    total: int
    positions: Positions

    def is_about(self, session: Session, positions: Positions) -> bool:
        """Whether model, images, first question and positions are still those that they were measured with."""
        mine = self.session
        return (mine.model_name, mine.keys, mine.first, self.positions) == (
            session.model_name,
            session.keys,
            session.first,
            positions,
        )


class OnDevice:
    """The model as a sweep asks it: each call takes its turn on the device, which is free in between."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def layers(self) -> int:
        return self._engine.vlm.layers

    def tokens(self, encoded: Encoded, question: str, needs: frozenset[str]) -> VisualTokens:
        return self._engine.on_device(lambda: remote.tokens(self._engine.handle, encoded, question, needs))

    def logprobs(
        self,
        encoded: Encoded,
        question: str,
        answer_ids: Sequence[int],
        selections: Sequence[Kept],
        *,
        positions: Positions,
    ) -> list[Tensor]:
        values = (encoded, question, answer_ids, selections, (), positions)
        return self._engine.on_device(lambda: remote.logprobs(self._engine.handle, *values))


def source_of(engine: Engine, method: Started) -> str:
    """The importance source that judges the plane: the method's own, else the model's best."""
    source = getattr(method, "importance", engine.default_source)
    return source if source in SIGNALS else engine.default_source


def plane(engine: Engine, session: Session, setting: Setting) -> list[PlanePoint]:
    """The λ sweep, the reference strategies and the present method at one budget; the present setting comes last.

    The budget is for all images together, whatever the setting's scope. Of a plan, the present setting is what is alive
    after the last cut; the others keep as many tokens as it has in the mean of the layers. Another encoding is nowhere
    on it; the others keep as many tokens as it has.
    """
    source = source_of(engine, setting.method)
    needs = signals_for(source) | choosing.needs_of(setting.asked)
    tokens = engine.tokens(session, needs)
    asked = session.first if needs & ASKING or setting.staged else ""
    trace = engine.trace(session, setting) if setting.staged else None
    positions = setting.positions if setting.staged else ""  # before the language model they choose nothing
    budget = engine.budget(session, setting)
    retention = setting.retention if setting.one_shot else budget / tokens.n if trace is None else trace.equivalent
    budget = keep_count(tokens.n, retention)

    def make_points() -> list[PlanePoint]:
        importance = raw_importance(tokens, source, "plane")
        swept = plane_sweep(tokens, importance, plane_methods(source), retentions=[retention])
        if trace is not None:
            alive = survivors(trace).order
            return [*swept, survivors_point(setting.asked, retention, budget, alive, tokens, importance)]
        if setting.encoding is not None:  # see plane_note
            return [*swept, nowhere(setting.asked, retention, budget)]
        # A λ of its own must not be swept again: the method stands for the present setting alone.
        method = choosing.one_shot(setting.asked)
        here = plane_sweep(tokens, importance, [method], lambdas=[method.lambda_ or 0.0], retentions=[retention])
        return [*swept, *here]

    return engine.memo(
        session,
        ("plane", asked, source, setting.asked, positions, budget),
        make_points,
        lambda points: 200 * len(points),
    )


def plane_chart(points: Sequence[PlanePoint], palette: Palette) -> charts.Chart:
    """Draw `plane`'s points; a budget of one token has no Hopkins statistic and gives an empty plane."""
    shown = [point for point in points[:-1] if math.isfinite(point.hopkins)]
    here = points[-1] if math.isfinite(points[-1].hopkins) else None
    # The present method is a point of its own only where the sweep does not already show it.
    if here is not None and here.mmr_lambda is None and here.method not in {point.method for point in shown}:
        shown.append(here)
    return charts.plane(shown, front(shown), here, slots(point.method for point in points), palette)


def plane_note(engine: Engine, session: Session, setting: Setting) -> str:
    """What the plane shows of a setting that drops tokens between layers or encodes anew; "" of all others."""
    if setting.one_shot:
        return ""
    title = choosing.title_of(setting.asked)
    if setting.encoding is not None:
        n, budget = engine.encoded(session).tokens.n, engine.budget(session, setting)
        return (
            f"{title} is nowhere on the plane: none of the {n:,} tokens is kept, the pictures are encoded anew; the "
            f"others keep {budget:,}, as many as it has"
        )
    trace = engine.trace(session, setting)
    mean = keep_count(len(trace.lives), trace.equivalent)
    return (
        f"{title} stands where the {trace.alive[-1]:,} tokens alive after its last cut lie; "
        f"the others keep {mean:,}, as many as it has in the mean of the layers"
    )


def sweep_methods(
    capabilities: Capabilities, names: Sequence[str], setting: Setting, images: int
) -> tuple[list[choosing.Asked], list[str]]:
    """The chosen methods with the present importance source, and why those that are left out cannot run on so many
    images.

    The present method keeps all its knobs, and a plan in its place is among the chosen ones. Raises ValueError when
    none is chosen, or none of them can run.
    """
    if not names:
        raise ValueError("No method is chosen for the fidelity curves: tick at least one")
    method, left_out = setting.method, list[str]()
    chosen: list[choosing.Asked] = [] if setting.plan is None else [setting.plan]
    for name in dict.fromkeys(names):
        if name in capabilities.refused:
            left_out.append(capabilities.refused[name])
        elif name == method.name:
            chosen.append(method)
        else:
            source = getattr(method, SOURCE, None) if REGISTERED[capabilities.check(name)].has(SOURCE) else None
            chosen.append(runnable.started(capabilities.signals, name, source and {SOURCE: source}))
    for asked in tuple(chosen):
        if why := capabilities.why_not(asked, images):
            chosen.remove(asked)
            left_out.append(why)
    if not chosen:
        raise ValueError(f"None of the ticked methods can run here: {'; '.join(left_out)}. Tick others")
    return chosen, left_out


def sweep(
    engine: Engine,
    session: Session,
    methods: Sequence[choosing.Asked],
    task: Task,
    retentions: Sequence[float] = RETENTIONS,
    positions: Positions = "original",
) -> Iterator[Progress]:
    """Measure fidelity for every method and retention, a batch at a time; the device is free between two batches."""
    question = session.checked_questions()[0]
    n, layers, again = engine.encoded(session).tokens.n, engine.vlm.layers, engine.again(session)
    wanted, left_out = choosing.cells(methods, retentions, n, layers, again=again)
    total, start = len(wanted), time.perf_counter()

    def now(points: Sequence[FidelityPoint], stage: str) -> Progress:
        return Progress(tuple(points), total, time.perf_counter() - start, stage, tuple(left_out))

    key = ("sweep", question, tuple(methods), tuple(retentions), positions)
    held: tuple[FidelityPoint, ...] | None = engine.recall(session, key)
    if held is not None:
        yield replace(now(held, "done"), seconds=0.0)
        return
    if not engine.in_world(session, question).inside:
        yield now((), "outside")
        return
    yield now((), "answering")
    full: Answer | None = None
    for item in answers(engine, Asked(session, question), task):
        if not isinstance(item, str):
            full = item
    if full is None or full.cancelled or is_empty(full.text):
        yield now((), "stopped" if full is None or full.cancelled else "empty")
        return
    encoded = engine.encoded(session, frozenset().union(*map(choosing.needs_of, methods)))
    start = time.perf_counter()
    model: Any = OnDevice(engine)  # it is never asked for the answer, which is given
    asked: dict[str, Any] = {"answer": full, "again": again, "cancel": task, "positions": positions}
    steps = fidelity_sweep(model, encoded, question, methods, retentions, **asked)
    points: list[FidelityPoint] = []
    for point in steps:
        points.append(point)
        if len(points) % max(1, len(methods)) == 0 or len(points) == 1:
            yield now(points, "sweeping")
    finished = len(points) == total
    if finished:
        engine.remember(session, key, tuple(points), 160 * total)
    yield now(points, "done" if finished else "stopped")


def fidelity_chart(points: Sequence[FidelityPoint], n: int, here: int, palette: Palette) -> charts.Chart:
    """Draw the points that there are; one line per method."""
    lines, colours = [], slots(point.method for point in points)
    for name in dict.fromkeys(point.method for point in points):
        line = [point for point in points if point.method == name]
        measured = tuple((point.budget, point.retention, point.fidelity) for point in line)
        lines.append(charts.Series(name, line[0].title, line[0].mmr_lambda, colours[name], measured))
    return charts.fidelity(lines, n, here, palette)
