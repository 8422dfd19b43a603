"""The plan's charts as their scripts take them, and the line below."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from app.plan.dominance import Dominances
from app.plan.steps import Steps
from app.session import Setting
from app.web.html import notice
from pruning.staged import StagedMethod

PENDING = "Measured once both answers stand"
STOPPED = "Stopped before it was measured: ask again"
HIGH = 0.99  # a schedule that comes closer to all than this is bounded from below alone


def chart(steps: Steps | None) -> dict[str, Any] | None:
    """The value of plan-chart.js; None where there is nothing to draw."""
    return None if steps is None else asdict(steps)


def note(setting: Setting, steps: Steps) -> Markup:
    """What the plan comes to, or what the method's own schedule can come to."""
    if setting.plan is not None:
        came = f"{steps.equivalent:.1%} of the tokens".replace("%", " %")
        return notice(f"This plan comes to {came} in the mean of the layers; empty the box to use the slider again")
    assert isinstance(setting.method, StagedMethod)
    least, most, why = setting.method.reach(steps.n, steps.layers)
    above = f", and to {100 * most:.1f} % at most below all" if most < HIGH else ""
    return notice(f"{setting.method.title} comes to {100 * least:.1f} % at least here{above}: {why}")


def dominance(about: Hashable, found: Dominances | None, words: str = "", problem: bool = False) -> dict[str, Any]:
    """The value of dominance-chart.js. about: tells one measurement from another; words: why there is none."""
    value = {"key": hashlib.sha256(repr(about).encode()).hexdigest()[:16]}
    if found is None:
        return value | {"words": words, "problem": problem}
    names = {"layer": "layer", "mdi": "mdi", "aei_text": "text", "aei_visual": "picture"}
    sides = {
        side: [{said: getattr(layer, name) for name, said in names.items()} for layer in measured]
        for side, measured in (("full", found.full), ("kept", found.kept))
    }
    return value | {"layers": found.layers, **sides}
