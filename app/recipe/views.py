"""What is said above a recipe, as HTML. No Gradio, no model."""

from __future__ import annotations

from markupsafe import Markup

from app.web.html import notice
from pruning.handover.wanted import Recipe


def note(recipe: Recipe) -> Markup:
    """What will differ there; a warning where the setting cannot be served."""
    return notice(recipe.note, "info" if recipe.text else "warn")
