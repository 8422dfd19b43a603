"""The card of a patch as HTML."""

from __future__ import annotations

from app.web.html import NONE, text
from pruning.evaluation.inspection import Card, ordinal

EMPTY = "Click a patch, or move to one with the arrow keys and press Enter: why was it kept or dropped?"


def card(found: Card | None) -> str:
    """A line with the reason, and what it rests on."""
    if found is None:
        return f'<p class="card empty">{EMPTY}</p>'
    where = {"tile": "tile, ", "thumbnail": "thumbnail, ", "whole": ""}[found.role]
    facts = [
        ("rank", NONE if found.rank is None else f"{ordinal(found.rank)} of {found.kept:,}"),
        ("importance", NONE if found.normalised is None else f"{found.normalised:.2f}"),
        ("raw", NONE if found.importance is None else f"{found.importance:.3g}"),
        ("percentile", NONE if found.percentile is None else f"{found.percentile:.0f} %"),
        ("nearest kept", NONE if found.similarity is None else f"{found.similarity:.2f} similar"),
        ("MMR score", NONE if found.score is None else f"{found.score:.3f}"),
    ]
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    sign = "kept" if found.rank is not None else "merged" if found.merged_into is not None else "dropped"
    place = f"{where}patch ({found.row + 1}, {found.column + 1})"
    told = f"<p><b>{place}</b> {text(found.why)}</p><dl>{shown}</dl>{_cuts(found)}"
    return f'<section class="card {sign}" aria-label="Patch">{told}</section>'


def _cuts(found: Card) -> str:
    """A line for every cut of a plan that the token came to."""
    lines = "".join(
        f"<li>after layer {cut.after}: "
        + (f"{ordinal(cut.rank)} of {cut.alive:,}" if cut.rank is not None else f"one of {cut.alive:,}")
        + ("" if cut.score is None else f", score {cut.score:.3g}")
        + f"; {cut.kept:,} stayed</li>"
        for cut in found.cuts
    )
    return f'<ol class="cuts" aria-label="Cuts">{lines}</ol>' if lines else ""


LEGENDS = {
    "dimmed": '<i class="key kept"></i>kept patch <i class="key veil"></i>pruned patch',
    "grid": '<i class="key kept"></i>kept patch <i class="key faded"></i>pruned patch',
    "heat": 'importance: low <i class="key ramp"></i> high <i class="key white"></i>kept patch',
    "order": 'picked last <i class="key ramp"></i> picked first · the number is the rank',
    "merged": '<i class="key kept"></i>kept patch · one colour: merged into one token <i class="key veil"></i>dropped',
}


def legends() -> str:
    """All legends as hidden pieces, of which a canvas shows the one for its style."""
    return "".join(f'<span data-legend="{style}" hidden>{words}</span>' for style, words in LEGENDS.items())
