"""What a program says of one setting, and the setting that it stands for. Values are checked like the page's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.engine.capabilities import Capabilities
from app.session import Setting
from app.web.controls import Controls
from pruning.budget import check_retention
from pruning.grids import SCOPES
from pruning.models.values import POSITIONS, check_positions


@dataclass(frozen=True)
class Said:
    """The values as they came. plan: in the place of method and retention; then the knobs are those of its methods."""

    method: Any
    importance: Any
    diversity: Any
    retention: Any
    knobs: Any = None
    per: Any = None
    plan: Any = None
    positions: Any = None

    def setting(self, controls: Controls, capabilities: Capabilities) -> Setting:
        """Raises ValueError that names the value and the rule."""
        knobs = {} if self.knobs is None else self.knobs
        if not isinstance(knobs, Mapping):
            raise ValueError(f"knobs is {knobs!r}: must be an object such as {{'importance': 'feature_norm'}}")
        if self.per is not None and self.per not in SCOPES:
            raise ValueError(f"per is {self.per!r}: must be one of {', '.join(SCOPES)}")
        scope, weights = self.per or SCOPES[0], (self.importance, self.diversity)
        own = {} if self.plan else knobs
        method = controls.named(capabilities, self.method, *weights, own)
        check_retention(self.retention)
        plan = controls.planned(capabilities, self.plan, *weights, knobs) if self.plan else None
        positions = check_positions(POSITIONS[0] if self.positions is None else self.positions)
        return Setting(method, self.retention, scope, plan=plan, positions=positions)
