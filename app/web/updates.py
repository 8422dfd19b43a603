"""Updates of components that several events make alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.session import Session
from pruning.grids import Grid

Updates = dict[Any, Any]  # component -> its new value, or an update of it
SUGGESTIONS = 4
MIN_RETENTION = 0.02  # where the retention slider begins, unless it was given finer steps
LEAST_RETENTION = 0.00001  # its finest step: one token of 100,000


def suggestions(questions: Sequence[str]) -> list[Any]:
    """Updates of the suggestion buttons; those without a question are hidden."""
    shown = [gr.update(value=question, visible=True) for question in questions[:SUGGESTIONS]]
    return shown + [gr.update(visible=False)] * (SUGGESTIONS - len(shown))


def talk_buttons(session: Session) -> tuple[Any, Any]:
    """Updates of "Follow up" and "New conversation": one of the two is there."""
    talking = len(session.questions) > 1
    return gr.update(visible=not talking), gr.update(visible=talking)


def scopes(grids: Sequence[Grid]) -> Any:
    """Update of the choice for what a budget is: there only where a sample has more parts than one."""
    choices = [("all", "sample")]
    if len({grid.image for grid in grids}) > 1:
        choices.append(("each image", "image"))
    if len({(grid.image, grid.role, grid.start) for grid in grids}) > len({grid.image for grid in grids}):
        choices.append(("each tile", "tile"))
    if any(grid.t > 1 for grid in grids):
        choices += [("each frame", "frame"), ("by what is new", "novelty")]
    return gr.update(choices=choices, value="sample", visible=len(choices) > 1)


def retention(ratio: float) -> Any:
    """Update of the retention slider to a ratio that it may have no step for: it gets finer steps where need be.

    A ratio between two steps would be shown, but lost with the next touch, and few tokens of many lie below 0.02.
    """
    digits = max(2, len(f"{ratio:.5f}".rstrip("0").partition(".")[2]))
    step = round(10.0**-digits, digits)
    return gr.update(value=ratio, minimum=min(MIN_RETENTION if digits == 2 else step, ratio), step=step)
