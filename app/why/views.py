"""The patches that an answer hangs on, as HTML: how far the search is, what was found, on the pictures. No Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from app.canvas.overlays import Overlay, View
from app.web import html
from app.web.html import FLOPS, NONE, notice, quantity, to_come, waiting
from app.web.templates import render
from app.why.run import Step
from pruning.drawing import overlays as draw
from pruning.evaluation.verdict import is_empty
from pruning.evaluation.why import summary

HINT = (
    "Looks for the fewest patches that the answer hangs on: those that would bring it back where pruning changed it, "
    "else those that it cannot do without. Every set is measured."
)


def progress(step: Step | None, place: int = 0, problem: str = "", stopped: bool = False) -> Markup:
    """place: in the line where it waits now, 0 = it does not. problem: why it has ended without the rest."""
    if problem:
        return notice(problem, "warn")
    if place:
        return html.progress(waiting(place))
    if step is None:
        return html.progress("Stopped" if stopped else HINT)
    done = step.found.done if step.found else 0
    sets = "1 set of patches" if done == 1 else f"{done:,} sets of patches"
    stage = "stopped" if stopped else step.stage
    words = {
        "answering": "Answering with all tokens, then with the kept ones …",
        "searching": f"{sets} measured{to_come(step.pace)}",
        "tokens": f"{sets} measured; now what each patch is to each token of the answer …",
        "done": f"{sets} measured",
        "stopped": f"Stopped after {sets}: what was found stays",
    }
    if step.pace is None:
        total = 1 if stage == "done" else 0
        return html.progress(words[stage], "Sets measured" if total else "", total, total)
    return html.progress(words[stage], "Sets measured", round(step.pace.done), round(step.pace.total))


def result(step: Step, views: Sequence[View] = (), painted: Sequence[Overlay] = ()) -> Markup:
    """What is known so far, with the patches marked on the pictures; nothing before both answers stand.

    painted: what is kept of each of the `views`.
    """
    if step.found is None and not step.full:
        return Markup()
    found, patches = step.found, step.found.patches if step.found else ()
    named = {patch for costs in step.tokens for patch, _ in costs.patches}
    places = {patch: i + 1 for i, patch in enumerate(patches)}
    shown = []
    for number, (view, overlay) in enumerate(zip(views, painted, strict=True), 1):
        mine = [patch for patch in sorted({*patches, *named}) if view.own[patch]]
        if not mine and len(views) > 1:
            continue
        height, width = overlay.image.shape[:2]
        shown.append(
            {
                "alt": f"Picture {number}: {len(patches)} patches are marked",
                "width": width,
                "height": height,
                "url": draw.data_url(overlay.image),
                "boxes": [_box(view, patch, places.get(patch)) for patch in mine],
            }
        )
    sentence = "" if found is None else summary(found)
    return render(
        "why.result",
        question=step.question,
        full=step.full or NONE,
        kept="" if is_empty(step.kept) else step.kept,
        n=step.n,
        budget=step.budget,
        summary=f"{sentence[:1].upper()}{sentence[1:]}" if step.stage in ("done", "tokens", "stopped") else "",
        pictures=shown,
        tokens=[
            (costs.text.strip() or "␣", [patch for patch, _ in costs.patches], _costs(costs.patches))
            for costs in step.tokens
        ],
        fidelities=_curve(step) if found and found.reached and patches else [],
        later=step.turns > 1,
        back=found is not None and found.way == "return",
    )


def _curve(step: Step) -> list[tuple[int, float, str]]:
    """How many patches, the fidelity then, and what the whole prompt costs to read."""
    assert step.found is not None
    costs = [quantity(flops, FLOPS, 1000) for flops in step.prefills] or [NONE] * len(step.found.fidelities)
    return [(count, value, costs[count]) for count, value in enumerate(step.found.fidelities)]


def _box(view: View, patch: int, place: int | None) -> dict[str, Any]:
    left, top, right, bottom = view.spot(patch)
    return {"patch": patch, "place": place, "x": left, "y": top, "width": right - left, "height": bottom - top}


def _costs(patches: Sequence[tuple[int, float]]) -> str:
    return ", ".join(f"patch {patch} {-lost:+.3f}" for patch, lost in patches)
