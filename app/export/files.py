"""The files of an export as bytes: figures, tables, JSON, its README.txt, and the ZIP around them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from app.plan.dominance import Dominances
from pruning.drawing.charts import Chart
from pruning.evaluation.lives import Lives

ABOUT: Mapping[str, str] = {
    "settings.json": "method, knobs, retention ratio, or the plan in their place, images, model, and the versions of "
    "everything that took part",
    "recipe.md": "the setting written for other programs, ready to paste, and what will differ there",
    "selection.json": "pick order, kept indices, merge map, grids; rectangles of all tokens in pixels",
    "certificate.json": "what the setting came to, for another machine: `idpruner verify certificate.json` beside the "
    "images",
    "lives.csv": "until which layer each visual token lives, and its rank and score at every cut that it came to",
    "dominance.csv": "of both answers, the attention that text and picture get in each layer, and MDI and AEI of it",
    "answers.json": "both answers, agreement, fidelity, costs; seconds were measured, FLOPs and bytes are analytic",
    "plane": "importance retention I(S) against the Hopkins statistic H(S) at this budget: figure and numbers",
    "fidelity": "fidelity against tokens kept: figure and numbers, as far as they were measured",
    "image": "each image as the model is given it, with the overlay that the page shows, and its kept area alone "
    "(white = kept)",
    "clip": "each clip with the overlay that the page shows: one frame of each step on a sheet, and all that the model "
    "is given as a film",
    "references.bib": "the papers of the methods that appear here",
}


def figure(name: str, chart: Chart) -> dict[str, bytes]:
    """The chart as SVG, whose text stays text, and as PNG."""
    svg = f'<?xml version="1.0" encoding="utf-8"?>\n{chart.svg()}\n'
    return {f"{name}.svg": svg.encode(), f"{name}.png": chart.png()}


def readme(files: Iterable[str], notes: Sequence[str]) -> bytes:
    """What each file is, and what a reader has to know beside."""
    lines = ["What IDPruner Lab showed, exported", "=" * 34, ""]
    for start, about in ABOUT.items():
        described = sorted(name for name in files if name.startswith(start))
        if described:
            lines += [", ".join(described), f"    {about}"]
    return "\n".join([*lines, "", *notes, ""]).encode()


def table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """One line per row under the names of its values; None is an empty field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def lived(lives: Lives) -> list[dict[str, Any]]:
    """A row for each token: how many layers process it, then its rank and score at every cut."""
    rows: list[dict[str, Any]] = [{"token": token, "layers": life} for token, life in enumerate(lives.lives)]
    for cut in lives.cuts:
        for row, rank, score in zip(rows, cut.ranks, cut.scores, strict=True):
            row |= {f"rank_after_{cut.after}": rank, f"score_after_{cut.after}": score}
    return rows


def dominated(found: Dominances) -> list[dict[str, Any]]:
    """A row for each layer of the answer with all tokens, then of that with the kept ones."""
    sides = (("all", found.full), ("kept", found.kept))
    return [{"tokens": tokens, **asdict(layer)} for tokens, layers in sides for layer in layers]


def text(value: Any) -> bytes:
    """JSON. Raises ValueError for a number that is not finite."""
    return (json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def packed(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Without times, so that equal pieces give equal files. Pictures are compressed already."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files:
            kind = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=kind)
    return out.getvalue()
