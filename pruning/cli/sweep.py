"""`sweep`: the trade-off curves of one picture and question, as a table and as charts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pruning.budget import keep_count
from pruning.cli.files import write_picture
from pruning.drawing import charts
from pruning.drawing import overlays as draw
from pruning.encoding import Encoding, EncodingMethod, OutOfReachError
from pruning.evaluation.fidelity import FidelityPoint, fidelity_sweep
from pruning.evaluation.plane import PlanePoint, front, plane_methods, plane_sweep, slots
from pruning.grids import Scope
from pruning.images import open_image
from pruning.importance import best_source, raw_importance, signals_for
from pruning.method import Method
from pruning.models import VLM, Encoded


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
    methods: Sequence[Method | EncodingMethod],
    retentions: Sequence[float],
    at: float,
    per: Scope,
    png: Path | None,
    progress: Callable[[int, int], None],
    tell: Callable[[str], None],
) -> list[Point]:
    """Both trade-offs of one image and question: the plane for every λ and reference strategy, fidelity for `methods`.

    `at` is the retention at which the plane is drawn, `per` what a budget is for. `progress` is called with (points
    done, points in all), `tell` with a sentence on each thing that was changed in the image. What merges tokens or asks
    for another encoding keeps no set of them: it has a curve, and no place on the plane. Raises ValueError where
    the answer with all tokens has no words.
    """
    image, judge = open_image(source), best_source(vlm.signals)
    for note in image.info["notes"]:
        tell(note)
    plane = plane_methods(judge)
    needs = frozenset().union(signals_for(judge), *(m.needs for m in (*methods, *plane) if isinstance(m, Method)))
    encoded = vlm.encode([image], needs - {"question"})
    tokens = vlm.tokens(encoded, question, needs)
    importance = raw_importance(tokens, judge, "sweep")
    wanted = sorted({*retentions, at})
    swept = plane_sweep(tokens, importance, plane, retentions=wanted, per=per)
    total, curves = len(methods) * len(set(retentions)), []

    def again(asked: Encoding) -> Encoded:
        try:
            return vlm.encode([image], asked=asked)
        except OutOfReachError as error:
            tell(f"left out: {error}")
            raise

    for point in fidelity_sweep(vlm, encoded, question, methods, retentions, per=per, again=again):
        curves.append(point)
        progress(len(curves), total)
    if png is not None:
        at_budget = [p for p in swept if p.retention == at and p.hopkins == p.hopkins]
        left = charts.plane(at_budget, front(at_budget), None, slots())
        right = charts.fidelity(_series(curves), tokens.n, keep_count(tokens.n, at))
        write_picture(png, _beside(left.png(), right.png()))
    rows = [Point(*_setting(p), p.importance_retention, _finite(p.hopkins), None) for p in swept]
    return rows + [Point(*_setting(p), None, None, p.fidelity) for p in curves]


def _setting(p: PlanePoint | FidelityPoint) -> tuple[str, str, float | None, int, float]:
    return p.method, p.title, p.mmr_lambda, p.budget, p.retention


def _series(points: Sequence[FidelityPoint]) -> list[charts.Series]:
    lines: dict[tuple[str, str, float | None], list[tuple[int, float, float]]] = {}
    for p in points:
        lines.setdefault((p.method, p.title, p.mmr_lambda), []).append((p.budget, p.retention, p.fidelity))
    return [charts.Series(*line, slots()[line[0]], tuple(values)) for line, values in lines.items()]


def _beside(*pictures: bytes) -> draw.Image:
    """PNG files of equal height next to each other, (H, W, 3)."""
    return np.concatenate([np.asarray(Image.open(BytesIO(data)).convert("RGB")) for data in pictures], axis=1)


def _finite(value: float) -> float | None:
    return value if value == value else None
