"""The recipes of what a page shows, or of what a program asks for."""

from __future__ import annotations

from app.engine.engine import Engine
from app.session import Session, Setting
from pruning.handover.recipes import recipes
from pruning.handover.wanted import CLIP, IMAGE, QUESTION, Recipe, Wanted, short_name


def written(engine: Engine, session: Session, setting: Setting) -> tuple[Recipe, ...]:
    """One for every program that is known; nothing is run for it, and no picture is named."""
    return recipes(
        Wanted(
            setting.asked,
            setting.retention,
            short_name(engine.vlm.model_id),
            engine.vlm.config.model_type,
            setting.scope,
            setting.positions,
            question=session.first or QUESTION,
            image=CLIP if session.films else IMAGE,
            forced=len(setting.forced.ins) + len(setting.forced.outs),
            sampling=session.films[0].sampling if session.films else None,
            weights=engine.vlm.weights,
        )
    )
