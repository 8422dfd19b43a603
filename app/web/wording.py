"""A setting in words: for headings, tables and lines that say what a result is about."""

from __future__ import annotations

from app.session import Setting
from pruning.params import params

PLACES = {"sample": "", "image": "per image", "tile": "per tile"}


def title(setting: Setting) -> str:
    """ "IDPruner, λ 0.50"."""
    value = setting.method.lambda_
    return setting.method.title + ("" if value is None else f", λ {value:.2f}")


def details(setting: Setting) -> str:
    """Share kept, knobs that are not at their defaults, what each budget is for, how many patches are forced."""
    method, forced = setting.method, len(setting.forced.ins) + len(setting.forced.outs)
    changed = [p for p in params(type(method)) if p.name != "mmr_lambda" and getattr(method, p.name) != p.default]
    knobs = [f"{p.label} {str(getattr(method, p.name)).replace('_', ' ')}" for p in changed]
    parts = [f"{share(setting.retention)} kept", *knobs, PLACES[setting.scope], f"{forced} forced" if forced else ""]
    return " · ".join(part for part in parts if part)


def share(ratio: float) -> str:
    """ "25 %", "4.7 %", "66.7 %": three digits, and never 0 % or 100 % of what is some or not all."""
    digits = 3 if ratio < 0.999 else 5
    return f"{100 * ratio:.{digits}g} %"
