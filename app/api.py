"""The named endpoints: the page's work for programs. Values are checked like the page's; answers are plain JSON.

Each call is complete in itself (model, images, question, setting), and nothing of it outlives it but content in the
cache, and a model that it asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app import reports, tradeoff
from app.controls import Board
from app.device import Task
from app.engine import Engine, checked_question
from app.guard import guarded
from app.models import Models
from app.offer import Offer
from app.resources import checked_pictures
from app.session import Session, Setting
from pruning.allocation import SCOPES
from pruning.pareto import front, lambda_of

PROGRAMS = "programs"  # whom a model is in use by: all callers together
COMMON = ("path", "question", "name", "importance", "diversity", "retention", "knobs")
LATE = ("model", "images", "per")  # may be left out


@dataclass(frozen=True)
class Call:
    """The arguments of every endpoint, checked, and the model to work with."""

    engine: Engine
    offer: Offer
    session: Session
    setting: Setting


def endpoint(*own: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Event function with arguments COMMON, its `own`, LATE; from a method of `Api` that gets a Call and these."""
    names = (*COMMON, *own, *LATE)

    def decorate(work: Callable[..., Any]) -> Callable[..., Any]:
        @guarded
        @functools.wraps(work)
        def run(api: Api, *values: Any) -> Any:
            given = dict(zip(names, values, strict=False))
            with api.call(*(given.get(name) for name in (*COMMON, *LATE))) as call:
                return work(api, call, *(given[name] for name in own))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter("api", kind), *(inspect.Parameter(name, kind) for name in (*COMMON, *own))]
        parameters += [inspect.Parameter(name, kind, default=None) for name in LATE]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {}
        return run

    return decorate


class Api:
    """Every endpoint takes the image's file, the question, method, weights, retention and knobs by name; and may take a
    model's name, the files of further images, and what each budget is for.
    """

    def __init__(self, models: Models, board: Board) -> None:
        self.models, self.board = models, board

    @endpoint()
    def select(self, call: Call) -> dict[str, Any]:
        """Which visual tokens a method keeps: pick order, kept indices in raster order, grids, rectangles in pixels."""
        selection, method = call.engine.selection(call.session, call.setting), call.setting.method
        encoded = call.engine.encoded(call.session)
        merged = selection.merge_into
        return {
            "model": call.session.model, "method": method.name, "knobs": dataclasses.asdict(method),
            "mmr_lambda": lambda_of(method), "retention": call.setting.retention, "n": selection.n,
            "budget": selection.k, "order": selection.order.tolist(), "indices": selection.indices.tolist(),
            "merge_into": None if merged is None else merged.tolist(),
            "grids": [[g.t, g.gh, g.gw] for g in encoded.tokens.grids],
            "images": [g.image for g in encoded.tokens.grids],
            "rects": [[round(float(x), 2) for x in rect] for rect in encoded.rects],
        }  # fmt: skip

    @endpoint()
    def answer(self, call: Call) -> dict[str, Any]:
        """The answers with all and with the kept tokens, agreement, fidelity, and what each cost."""
        *_, last = reports.reports(call.engine, call.session, call.setting, Task())
        method = call.setting.method
        told = {"model": call.session.model, "method": method.name, "knobs": dataclasses.asdict(method)}
        return {**dataclasses.asdict(last), **told, "speedup": last.speedup}

    @endpoint("methods")
    def pareto(self, call: Call, methods: Sequence[str] | None) -> dict[str, Any]:
        """The I-H plane at this budget with its front, and fidelity curves of `methods` (none where it is empty)."""
        checked_question(call.session.first)
        points = tradeoff.plane(call.engine, call.session, call.setting)
        curves: tuple[Any, ...] = ()
        left_out: list[str] = []
        if methods:
            chosen, left_out = tradeoff.sweep_methods(call.offer, methods, call.setting.method)
            for progress in tradeoff.sweep(call.engine, call.session, chosen, Task()):
                curves = progress.points
        return {
            "plane": [_plain(point) for point in points[:-1]],
            "here": _plain(points[-1]),
            "front": [_plain(point) for point in front(points[:-1])],
            "fidelity": [_plain(point) for point in curves],
            "left_out": left_out,
        }

    @contextmanager
    def call(
        self,
        path: str | None,
        question: Any,
        name: Any,
        importance: Any,
        diversity: Any,
        retention: Any,
        knobs: Any,
        model: Any,
        images: Sequence[str] | None,
        per: Any,
    ) -> Iterator[Call]:
        """The call with its model loaded, which stays so until the block ends. Raises ValueError for bad values."""
        chosen = self.models.checked(model)
        own = {} if knobs is None else knobs
        if not isinstance(own, Mapping):
            raise ValueError(f"knobs is {own!r}: must be an object such as {{'importance': 'feature_norm'}}")
        if per is not None and per not in SCOPES:
            raise ValueError(f"per is {per!r}: must be one of {', '.join(SCOPES)}")
        files = [file for file in (path, *(images or ())) if file]
        pictures = checked_pictures(tuple(self.models.resources.pictures.open(file)[0] for file in files))
        for _ in self.models.open(chosen, PROGRAMS):
            pass
        with self.models.use(chosen, PROGRAMS) as (engine, offer):
            method = self.board.named(offer, name, importance, diversity, own)
            session = Session(chosen, pictures, (question,))
            yield Call(engine, offer, session, Setting(method, retention, per or "sample"))


def _plain(point: Any) -> dict[str, Any]:
    """JSON has no NaN: an undefined Hopkins statistic becomes null."""
    values = dataclasses.asdict(point)
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
