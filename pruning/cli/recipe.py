"""`recipe`: a setting, written for other programs."""

from pruning.choosing import Asked
from pruning.grids import Scope
from pruning.handover.recipes import recipes
from pruning.handover.wanted import Recipe, Wanted, short_name
from pruning.models import VLM
from pruning.models.values import Positions


def written(
    vlm: VLM, asked: Asked, retention: float, per: Scope, positions: Positions, only: str | None
) -> tuple[Recipe, ...]:
    """All recipes, or the one of a name."""
    model = short_name(vlm.model_id)
    wanted = Wanted(asked, retention, model, vlm.config.model_type, per, positions, weights=vlm.weights)
    found = recipes(wanted)
    return tuple(each for each in found if only in (None, each.name))
