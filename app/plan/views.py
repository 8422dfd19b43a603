"""The plan's chart as its script takes it, and the line below it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from app.plan.steps import Steps
from app.session import Setting
from app.web.html import notice
from pruning.staged import StagedMethod


def chart(steps: Steps | None) -> dict[str, Any] | None:
    """The value of plan-chart.js; None where there is nothing to draw."""
    return None if steps is None else asdict(steps)


def note(setting: Setting, steps: Steps) -> Markup:
    """What the plan comes to, or what the method's own schedule can come to."""
    if setting.plan is not None:
        came = f"{steps.equivalent:.1%} of the tokens".replace("%", " %")
        return notice(f"This plan comes to {came} in the mean of the layers; empty the box to use the slider again")
    assert isinstance(setting.method, StagedMethod)
    least, why = setting.method.reach(steps.n, steps.layers)
    return notice(f"{setting.method.title} comes to {100 * least:.1f} % at least here: {why}")
