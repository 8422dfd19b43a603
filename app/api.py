"""The named endpoints: the page's work for programs. Values are checked like the page's; answers are plain JSON.

Each call is complete in itself (image, question, setting), and nothing of it outlives it but content in the cache.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from app import reports, tradeoff
from app.controls import Board
from app.device import Task
from app.engine import Engine, checked_question
from app.handlers import guarded, required
from pruning.pareto import front, lambda_of


class Api:
    """Every endpoint takes (image file, question, method, importance weight, diversity weight, retention, knobs)."""

    def __init__(self, engine: Engine, board: Board) -> None:
        self.engine, self.board = engine, board

    @guarded
    def select(
        self,
        path: str | None,
        question: str,
        name: str,
        importance: float,
        diversity: float,
        retention: float,
        knobs: Any,
    ) -> dict[str, Any]:
        """Which visual tokens a method keeps: pick order, kept indices in raster order, grid, rectangles in pixels."""
        session, method = self._open(path), self._method(name, importance, diversity, knobs)
        question = checked_question(question) if "question" in method.needs else ""
        selection = self.engine.selection(session, question, method, retention)
        encoded = self.engine.encoded(session)
        return {
            "method": method.name, "knobs": dataclasses.asdict(method), "mmr_lambda": lambda_of(method),
            "retention": retention, "n": selection.n, "budget": selection.k,
            "order": selection.order.tolist(), "indices": selection.indices.tolist(),
            "grids": [[g.t, g.gh, g.gw] for g in encoded.tokens.grids],
            "rects": [[round(float(x), 2) for x in rect] for rect in encoded.rects],
        }  # fmt: skip

    @guarded
    def answer(
        self,
        path: str | None,
        question: str,
        name: str,
        importance: float,
        diversity: float,
        retention: float,
        knobs: Any,
    ) -> dict[str, Any]:
        """The answers with all and with the kept tokens, agreement, fidelity, and what each cost."""
        session, method = self._open(path), self._method(name, importance, diversity, knobs)
        *_, last = reports.reports(self.engine, session, question, method, retention, Task())
        told = dataclasses.asdict(last)
        return {**told, "method": method.name, "knobs": dataclasses.asdict(method), "speedup": last.speedup}

    @guarded
    def pareto(
        self,
        path: str | None,
        question: str,
        name: str,
        importance: float,
        diversity: float,
        retention: float,
        knobs: Any,
        methods: Sequence[str] | None,
    ) -> dict[str, Any]:
        """The I-H plane at this budget with its front, and fidelity curves of `methods` (none where it is empty)."""
        session, method = self._open(path), self._method(name, importance, diversity, knobs)
        points = tradeoff.plane(self.engine, session, checked_question(question), method, retention)
        curves: tuple[Any, ...] = ()
        if methods:
            chosen = tradeoff.sweep_methods(self.engine, methods, method)
            for progress in tradeoff.sweep(self.engine, session, question, chosen, Task()):
                curves = progress.points
        return {
            "plane": [_plain(point) for point in points[:-1]],
            "here": _plain(points[-1]),
            "front": [_plain(point) for point in front(points[:-1])],
            "fidelity": [_plain(point) for point in curves],
        }

    def _open(self, path: str | None) -> Any:
        return required(self.engine.open(path)[0] if path else None)

    def _method(self, name: str, importance: float, diversity: float, knobs: Any) -> Any:
        own = {} if knobs is None else knobs
        if not isinstance(own, Mapping):
            raise ValueError(f"knobs is {own!r}: must be an object such as {{'importance': 'feature_norm'}}")
        return self.board.named(name, importance, diversity, own)


def _plain(point: Any) -> dict[str, Any]:
    """JSON has no NaN: an undefined Hopkins statistic becomes null."""
    values = dataclasses.asdict(point)
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
