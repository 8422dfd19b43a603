"""The endpoint `/compare`: which further settings a program names, and what is found of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.api import results as api_results
from app.api.said import Said
from app.compare.run import MOST, Results, compare, overlap
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.session import Session, Setting
from app.web.controls import Controls
from pruning.grids import SCOPES
from pruning.models.values import POSITIONS

BASELINES = ({"method": "random"}, {"method": "uniform"})
NAMES = ("method", "importance", "diversity", "retention", "knobs", "per", "plan", "positions")
SCHEMA = {
    "type": "array",
    "maxItems": MOST - 1,
    "items": {
        "type": "object",
        "properties": {
            "method": {"type": "string"},
            "importance": {"type": "number", "minimum": 0},
            "diversity": {"type": "number", "minimum": 0},
            "retention": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "knobs": {"type": "object"},
            "per": {"type": "string", "enum": list(SCOPES)},
            "plan": {"type": "string"},
            "positions": {"type": "string", "enum": list(POSITIONS)},
        },
    },
}


def others(controls: Controls, capabilities: Capabilities, first: Said, given: Any) -> list[Setting]:
    """The settings to compare with `first`; what each leaves out is as there. Random and uniform where none is given.

    Raises ValueError that names the entry.
    """
    entries = given or BASELINES
    if not isinstance(entries, Sequence) or isinstance(entries, str) or len(entries) >= MOST:
        raise ValueError(f"others is {given!r}: must be a list of at most {MOST - 1} objects with {', '.join(NAMES)}")
    settings = []
    for place, entry in enumerate(entries):
        try:
            settings.append(_other(controls, capabilities, first, entry))
        except ValueError as error:
            raise ValueError(f"others[{place}]: {error}") from None
    return settings


def compared(
    engine: Engine, capabilities: Capabilities, session: Session, settings: Sequence[Setting]
) -> api_results.Compared:
    """Raises ValueError that names the first setting which cannot be measured, and why."""
    *_, last = compare(engine, capabilities, session, settings, Results(), Task())
    rows = [row for setting in settings if (row := last.results.of(setting)) is not None]
    answered = []
    for place, row in enumerate(rows):
        if row.report is None:
            raise ValueError(f"{'the first setting' if not place else f'others[{place - 1}]'}: {row.problem}")
        answered.append(api_results.answered(engine, session, row.setting, row.report))
    overlaps = [[overlap(row, other) for other in rows] for row in rows]
    return api_results.Compared(
        answered, [[None if overlapped is None else overlapped.iou for overlapped in line] for line in overlaps]
    )


def _other(controls: Controls, capabilities: Capabilities, first: Said, entry: Any) -> Setting:
    if not isinstance(entry, Mapping) or set(entry) - set(NAMES):
        raise ValueError(f"{entry!r} must be an object with some of {', '.join(NAMES)}")
    more = entry.get("knobs") or {}
    if not isinstance(more, Mapping):
        raise ValueError(f"knobs is {more!r}: must be an object such as {{'importance': 'feature_norm'}}")
    plan = entry.get("plan", None if "method" in entry else first.plan)
    said = replace(first, **{**entry, "plan": plan, "knobs": more})
    if (said.method, said.plan) == (first.method, first.plan):  # another method's knobs are its own
        said = replace(said, knobs={**(first.knobs or {}), **more})
    return said.setting(controls, capabilities)
