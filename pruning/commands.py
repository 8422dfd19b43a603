"""What the command line does, as functions that return what JSON can hold. Printing is `__main__`'s business."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pruning import charts, draw
from pruning.budget import check_retention, keep_count
from pruning.cost import kv_cache_bytes, prefill_flops
from pruning.images import open_image
from pruning.importance import raw_importance, signals_for
from pruning.method import METHODS, Method, make
from pruning.metrics import agreement, fidelity
from pruning.models import VLM, Answer, Encoded
from pruning.params import params
from pruning.pareto import FidelityPoint, fidelity_sweep, front, plane_methods, plane_sweep
from pruning.scenes.benchmark import run
from pruning.scenes.questions import FAMILIES
from pruning.tokens import VisualTokens

PICTURES = (".png", ".jpg", ".jpeg")
TIMINGS = 5  # repetitions behind a median
CURVES = ("idpruner", "vision_selector", "divprune", "random", "uniform")


@dataclass(frozen=True)
class Point:
    """One row of a sweep: a kept set, where it lies on the plane, and what is left of the answer (where measured)."""

    method: str
    mmr_lambda: float | None
    retention: float
    budget: int
    importance_retention: float | None
    hopkins: float | None
    fidelity: float | None


def build_method(vlm: VLM, name: str, knobs: Mapping[str, Any]) -> Method:
    """A method by name. Where the model has no scorer and no importance source is named, the next best one is taken."""
    known = {param.name for param in params(METHODS[name])} if name in METHODS else set()
    if "importance" in known and "importance" not in knobs:
        knobs = {**knobs, "importance": best_source(vlm)}
    return make(name, **knobs)


def best_source(vlm: VLM) -> str:
    """The trained scorer where the model has one, else the attention received in its last vision layer."""
    return "scorer" if "scorer" in vlm.signals else "vision_attention"


def answer(
    vlm: VLM,
    source: str,
    question: str,
    method: Method,
    retention: float,
    *,
    max_new_tokens: int = 64,
    overlay: Path | None = None,
    style: str = "dimmed",
) -> dict[str, Any]:
    """Answer with all tokens and with the kept ones, and measure both. Writes the overlay where a path is given."""
    check_retention(retention)
    image = open_image(source)
    vlm.warmup()
    encoded = vlm.encode([image], frozenset(need for need in method.needs if need != "question"))
    tokens = vlm.tokens(encoded, question, method.needs)
    budget = keep_count(tokens.n, retention)
    selection = method.select(tokens, budget)
    answers = [vlm.answer(encoded, question, kept, max_new_tokens=max_new_tokens) for kept in (None, selection.indices)]
    full, pruned = (
        _report(vlm, encoded, question, kept, given)
        for kept, given in zip((None, selection.indices), answers, strict=True)
    )
    logprobs = vlm.logprobs(encoded, question, answers[0].ids, [None, selection.indices])
    if overlay is not None:
        scores = None
        if style == "heat" and selection.scores is None:
            tokens = vlm.tokens(encoded, question, signals_for("feature_norm"))
            scores = raw_importance(tokens, "feature_norm", method.name).numpy()
        canvas, factor = draw.fit(np.asarray(image), 1024)
        _write(overlay, draw.overlay(canvas, encoded.rects * factor, selection, style, scores))
    return {
        "model": vlm.title,
        "question": question,
        "method": method.name,
        "knobs": asdict(method),
        "retention": retention,
        "tokens": tokens.n,
        "kept": selection.k,
        "indices": selection.indices.tolist(),
        "encode_s": encoded.encode_s,
        "select_s": statistics.median(_select_seconds(method, tokens, budget) for _ in range(TIMINGS)),
        "full": full,
        "pruned": pruned,
        "agreement": agreement(answers[0].ids, answers[1].ids),
        "fidelity": fidelity(*logprobs),
        "notes": list(image.info["notes"]),
        "overlay": str(overlay) if overlay else None,
    }


def _select_seconds(method: Method, tokens: VisualTokens, budget: int) -> float:
    """One selection from scratch, the similarity matrix included."""
    fresh = replace(tokens)  # a copy without the computed similarity
    start = time.perf_counter()
    method.select(fresh, budget)
    return time.perf_counter() - start


def _report(vlm: VLM, encoded: Encoded, question: str, kept: Any, given: Answer) -> dict[str, Any]:
    """What an answer says and what it cost; the time to the first token is a median."""
    times = [vlm.answer(encoded, question, kept, max_new_tokens=1).ttft_s for _ in range(TIMINGS)]
    return {
        "text": given.text,
        "finished": given.finished,
        "ttft_s": statistics.median(times),
        "ttft_spread_s": max(times) - min(times),
        "total_s": given.total_s,
        "prefill_tokens": given.prefill_tokens,
        "prefill_flops": prefill_flops(vlm.config, given.prefill_tokens),
        "kv_cache_bytes": kv_cache_bytes(vlm.config, given.prefill_tokens, vlm.dtype),
    }


def sweep(
    vlm: VLM,
    source: str,
    question: str,
    methods: Sequence[Method],
    retentions: Sequence[float],
    at: float,
    png: Path | None,
    progress: Callable[[int, int], None],
) -> list[Point]:
    """Both trade-offs of one image and question: the plane for every λ and reference strategy, fidelity for `methods`.

    `at` is the retention at which the plane is drawn. `progress` is called with (points done, points in all).
    """
    image, judge = open_image(source), best_source(vlm)
    plane = plane_methods(judge)
    needs = frozenset().union(signals_for(judge), *(method.needs for method in (*methods, *plane)))
    encoded = vlm.encode([image], needs - {"question"})
    tokens = vlm.tokens(encoded, question, needs)
    importance = raw_importance(tokens, judge, "sweep")
    wanted = sorted({*retentions, at})
    swept = plane_sweep(tokens, importance, plane, retentions=wanted)
    total, curves = len(methods) * len(set(retentions)), []
    for point in fidelity_sweep(vlm, encoded, question, methods, retentions):
        curves.append(point)
        progress(len(curves), total)
    if png is not None:
        at_budget = [p for p in swept if p.retention == at and p.hopkins == p.hopkins]
        left = charts.plane(at_budget, front(at_budget), None, _slots())
        right = charts.fidelity(_series(curves), tokens.n, keep_count(tokens.n, at))
        _write(png, _beside(left.png(), right.png()))
    rows = [
        Point(p.method, p.mmr_lambda, p.retention, p.budget, p.importance_retention, _finite(p.hopkins), None)
        for p in swept
    ]
    return rows + [Point(p.method, p.mmr_lambda, p.retention, p.budget, None, None, p.fidelity) for p in curves]


def scenes(
    vlm: VLM,
    methods: Sequence[Method],
    retentions: Sequence[float],
    count: int,
    per_family: int,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Accuracy on held-out scenes: a row for all tokens, then one per retention and method.

    `kept` is the share of the all-token accuracy that is left; None where that is 0.
    """
    named = {method.name: method for method in methods}
    rows = run(vlm, named, retentions, scenes=count, per_family=per_family, progress=progress)
    whole = rows[0].accuracy
    return [
        {
            "method": row.method,
            "retention": row.retention,
            **{family: _finite(row.of(family)) for family in FAMILIES},
            "accuracy": row.accuracy,
            "kept": row.accuracy / whole if whole else None,
            "questions": sum(row.asked.values()),
        }
        for row in rows
    ]


def method_table() -> str:
    """The registry as a Markdown table."""
    lines = ["| method | name | paper | needs | nested picks | knobs |", "|---|---|---|---|---|---|"]
    for name, method in sorted(METHODS.items()):
        paper = f"[{method.paper.rsplit('/', 1)[-1]}]({method.paper})" if method.paper else "baseline"
        needs = ", ".join(f"`{need}`" for need in sorted(method().needs)) or "nothing"
        knobs = ", ".join(f"{p.label} (`{p.name}`, {p.default})" for p in params(method)) or "none"
        nested = "yes" if method.nested else "no"
        lines.append(f"| {method.title} | `{name}` | {paper} | {needs} | {nested} | {knobs} |")
    return "\n".join(lines)


def check_path(path: Path | None, *endings: str) -> None:
    """ValueError unless a file of one of these kinds can be written there; the folder has to exist."""
    if path is None:
        return
    if endings and path.suffix.lower() not in endings:
        raise ValueError(f"{path} must end in {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist: create it first")


def _slots() -> dict[str, int]:
    return {name: place for place, name in enumerate(METHODS)}


def _series(points: Sequence[FidelityPoint]) -> list[charts.Series]:
    lines: dict[tuple[str, str, float | None], list[tuple[int, float, float]]] = {}
    for p in points:
        lines.setdefault((p.method, p.title, p.mmr_lambda), []).append((p.budget, p.retention, p.fidelity))
    return [charts.Series(*line, _slots()[line[0]], tuple(values)) for line, values in lines.items()]


def _beside(*pictures: bytes) -> draw.Image:
    """PNG files of equal height next to each other, (H, W, 3)."""
    from io import BytesIO

    return np.concatenate([np.asarray(Image.open(BytesIO(data)).convert("RGB")) for data in pictures], axis=1)


def _write(path: Path, image: draw.Image) -> None:
    path.write_bytes(draw.png(image) if path.suffix.lower() == ".png" else draw.jpeg(image))


def _finite(value: float) -> float | None:
    return value if value == value else None
