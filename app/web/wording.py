"""A setting in words: for headings, tables and lines that say what a result is about."""

from __future__ import annotations

from app.session import Setting
from pruning.choosing import title_of
from pruning.models.values import Positions
from pruning.params import LAMBDA, params
from pruning.plan import Plan
from pruning.runnable import Started

MEAN = "in the mean of the layers"
OWN = "a plan with a retention of its own"
PLACES = {
    "sample": "",
    "image": "per image",
    "tile": "per tile",
    "frame": "per frame",
    "novelty": "per frame, by what is new",
}
POSITIONS: dict[Positions, str] = {"original": "original", "compact": "without gaps"}


def title(setting: Setting) -> str:
    """ "IDPruner, λ 0.50"; a plan as it is written."""
    value = None if setting.plan else setting.method.lambda_
    return title_of(setting.asked) + ("" if value is None else f", λ {value:.2f}")


def details(setting: Setting) -> str:
    """Share kept, knobs that are not at their defaults, what each budget is for, how many patches are forced, positions
    that are not the original ones.
    """
    forced = len(setting.forced.ins) + len(setting.forced.outs)
    knobs = [words for method in _methods(setting) for words in _knobs(method)]
    kept = f"{share(setting.retention)} {MEAN if setting.staged else 'kept'}"
    places = "" if setting.positions == "original" else f"positions {POSITIONS[setting.positions]}"
    parts = [OWN if setting.plan else kept, *knobs, PLACES[setting.scope], f"{forced} forced" if forced else "", places]
    return " · ".join(part for part in parts if part)


def _methods(setting: Setting) -> list[Started]:
    """Those whose knobs a reader has to know; a published schedule has none to turn."""
    plan = setting.plan
    if isinstance(plan, Plan):
        return [*plan.methods]
    return [] if plan else [setting.method]


def _knobs(method: Started) -> list[str]:
    changed = [p for p in params(type(method)) if p.name != LAMBDA and getattr(method, p.name) != p.default]
    return [f"{p.label} {str(getattr(method, p.name)).replace('_', ' ')}" for p in changed]


def share(ratio: float) -> str:
    """ "25 %", "4.7 %", "66.7 %": three digits, and never 0 % or 100 % of what is some or not all."""
    digits = 3 if ratio < 0.999 else 5
    return f"{100 * ratio:.{digits}g} %"
