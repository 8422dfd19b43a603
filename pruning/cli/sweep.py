"""`sweep`: the trade-off curves of one picture or clip and question, as a table and as charts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from pruning.budget import keep_count
from pruning.choosing import Asked, Cell, cells, choose, name_of, needs_of
from pruning.cli.files import write_picture
from pruning.cli.media import opened
from pruning.drawing import charts
from pruning.drawing import overlays as draw
from pruning.encoding import EncodingMethod
from pruning.evaluation.fidelity import FidelityPoint, fidelity_sweep
from pruning.evaluation.lives import survivors
from pruning.evaluation.plane import PlanePoint, front, plane_methods, plane_sweep, slots, survivors_point
from pruning.evaluation.verdict import check_meaning
from pruning.grids import Scope
from pruning.importance import best_source, raw_importance, signals_for
from pruning.method import Method
from pruning.models import VLM, Encoded, in_world
from pruning.models.values import Positions
from pruning.plan import Plan
from pruning.published import Published
from pruning.tokens import VisualTokens
from pruning.video import notes_on


@dataclass(frozen=True)
class Point:
    """One row of a sweep: a kept set, where it lies on the plane, and what is left of the answer (where measured)."""

    method: str
    title: str
    mmr_lambda: float | None
    budget: int
    retention: float
    importance_retention: float | None
    hopkins: float | None
    fidelity: float | None


def sweep(
    vlm: VLM,
    source: str,
    question: str,
    methods: Sequence[Asked],
    retentions: Sequence[float],
    at: float,
    per: Scope,
    positions: Positions,
    png: Path | None,
    progress: Callable[[int, int], None],
    tell: Callable[[str], None],
    fps: float | None = None,
    max_frames: int | None = None,
) -> list[Point]:
    """Both trade-offs of one image and question: the plane for every λ and reference strategy, and for the tokens that
    plans among `methods` leave alive after their last cut; fidelity for `methods`.

    `at` is the retention at which the plane is drawn, `per` what a budget is for, `positions` those of kept tokens.
    `progress` is called with (points
    done, points in all), `tell` with a sentence on each thing that was changed in the image and each point that is left
    out. What merges tokens or asks for another encoding keeps no set of them: it has a curve, and no place on the
    plane. Raises ValueError as `choose` does, and where the answer with all tokens has no words, or none that can mean
    anything.
    """
    image, judge = opened(source, vlm, fps, max_frames), best_source(vlm.signals)
    for note in notes_on(image):
        tell(note)
    plane = plane_methods(judge)
    needs = frozenset().union(signals_for(judge), *map(needs_of, (*methods, *plane)))
    encoded = vlm.encode([image], needs - {"question"})
    check_meaning(in_world(vlm, encoded, question).reason)
    tokens = vlm.tokens(encoded, question, needs)
    importance = raw_importance(tokens, judge, "sweep")
    wanted = sorted({*retentions, at})
    swept = plane_sweep(tokens, importance, plane, retentions=wanted, per=per)
    again = cache(lambda asked: vlm.encode([image], asked=asked))
    measured, left_out = cells(methods, retentions, tokens.n, vlm.layers, per, again)
    for reason in left_out:
        tell(reason)
    curves = list[FidelityPoint]()
    for point in fidelity_sweep(vlm, encoded, question, methods, retentions, per=per, positions=positions, again=again):
        curves.append(point)
        progress(len(curves), len(measured))
    plans = [method for method in methods if not isinstance(method, Method | EncodingMethod)]
    inside, _ = cells(plans, wanted, tokens.n, vlm.layers, per)
    alive = [_survivors(vlm, encoded, question, positions, cell, tokens, importance) for cell in inside]
    if png is not None:
        fixed = {name_of(cell.asked) for cell in inside if isinstance(cell.asked, Published | Plan)}
        shown = [p for p in (*swept, *alive) if (p.retention == at or p.method in fixed) and p.hopkins == p.hopkins]
        colours = slots(name_of(method) for method in methods)
        left = charts.plane(shown, front([p for p in shown if p.method not in fixed]), None, colours)
        right = charts.fidelity(_series(curves, colours), tokens.n, keep_count(tokens.n, at))
        write_picture(png, _beside(left.png(), right.png()))
    rows = [Point(*_setting(p), p.importance_retention, _finite(p.hopkins), None) for p in (*swept, *alive)]
    return rows + [Point(*_setting(p), None, None, p.fidelity) for p in curves]


def _survivors(
    vlm: VLM,
    encoded: Encoded,
    question: str,
    positions: Positions,
    cell: Cell,
    tokens: VisualTokens,
    importance: Tensor,
) -> PlanePoint:
    """Where the tokens alive after the last cut lie."""
    runs = choose(cell.asked, tokens, vlm.layers, cell.retention)
    assert isinstance(runs, Plan), "what selects once has its place on the plane without the model"
    trace = vlm.trace(encoded, question, runs, positions=positions)
    budget = round(trace.equivalent * tokens.n)
    return survivors_point(cell.asked, cell.retention, budget, survivors(trace).order, tokens, importance)


def _setting(p: PlanePoint | FidelityPoint) -> tuple[str, str, float | None, int, float]:
    return p.method, p.title, p.mmr_lambda, p.budget, p.retention


def _series(points: Sequence[FidelityPoint], colours: Mapping[str, int]) -> list[charts.Series]:
    lines: dict[tuple[str, str, float | None], list[tuple[int, float, float]]] = {}
    for p in points:
        lines.setdefault((p.method, p.title, p.mmr_lambda), []).append((p.budget, p.retention, p.fidelity))
    return [charts.Series(*line, colours[line[0]], tuple(values)) for line, values in lines.items()]


def _beside(*pictures: bytes) -> draw.Image:
    """PNG files of equal height next to each other, (H, W, 3)."""
    return np.concatenate([np.asarray(Image.open(BytesIO(data)).convert("RGB")) for data in pictures], axis=1)


def _finite(value: float) -> float | None:
    return value if value == value else None
