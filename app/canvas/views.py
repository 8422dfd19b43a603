"""The card of a patch as HTML."""

from __future__ import annotations

from markupsafe import Markup

from app.web.html import NONE
from app.web.templates import render
from pruning.evaluation.inspection import Card, ordinal

EMPTY = "Click a patch, or move to one with the arrow keys and press Enter: why was it kept or dropped?"


def card(found: Card | None) -> Markup:
    """A line with the reason, and what it rests on."""
    if found is None:
        return render("canvas.no_card", words=EMPTY)
    where = {"tile": "tile, ", "thumbnail": "thumbnail, ", "whole": ""}[found.role]
    rank = NONE if found.rank is None else f"{ordinal(found.rank)} of {found.kept:,}"
    facts = [
        *([] if found.cuts else [("rank", rank)]),  # the cuts say it
        ("importance", NONE if found.normalised is None else f"{found.normalised:.2f}"),
        ("raw", NONE if found.importance is None else f"{found.importance:.3g}"),
        ("percentile", NONE if found.percentile is None else f"{found.percentile:.0f} %"),
        ("nearest kept", NONE if found.similarity is None else f"{found.similarity:.2f} similar"),
        *([] if found.before is None else [("same patch, frame before", f"{found.before:.2f} similar")]),
        *([] if found.after is None else [("same patch, next frame", f"{found.after:.2f} similar")]),
        *([] if found.cuts else [("MMR score", NONE if found.score is None else f"{found.score:.3f}")]),
    ]
    sign = "kept" if found.rank is not None else "merged" if found.merged_into is not None else "dropped"
    frame = f", frame {found.frame + 1} of {found.frames}" if found.frames > 1 else ""
    lies = f"patch ({found.row + 1}, {found.column + 1})" if found.placed else f"token {found.token + 1}, on no grid"
    place = f"{where}{lies}{frame}"
    return render("canvas.card", sign=sign, place=place, why=found.why, facts=facts, cuts=_cuts(found))


def _cuts(found: Card) -> list[str]:
    """A line for every cut of a plan that the token came to."""
    return [
        f"after layer {cut.after}: "
        + (f"{ordinal(cut.rank)} of {cut.alive:,}" if cut.rank is not None else f"one of {cut.alive:,}")
        + ("" if cut.score is None else f", score {cut.score:.3g}")
        + f"; {cut.kept:,} stayed"
        for cut in found.cuts
    ]
