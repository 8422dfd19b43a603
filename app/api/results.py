"""Results as plain values: what the named endpoints return and an export holds, each with its JSON schema."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from app.answers.reports import Report
from app.engine.engine import Engine
from app.session import Session, Setting
from app.why.run import Step
from pruning.evaluation.answered import WORDLESS, Used, used
from pruning.evaluation.answered import Answered as Answered
from pruning.evaluation.fidelity import FidelityPoint
from pruning.evaluation.lives import Lives
from pruning.evaluation.plane import PlanePoint, front
from pruning.evaluation.why import summary
from pruning.handover.wanted import Recipe


@dataclass(frozen=True)
class Part:
    """A grid of visual tokens: an image, a clip, or one tile of an image. Its tokens follow in raster order."""

    t: Annotated[int, Field(description="steps of time of a clip, each a frame or several; 1 for an image")]
    gh: Annotated[int, Field(description="rows of tokens")]
    gw: Annotated[int, Field(description="columns of tokens")]
    start: Annotated[int, Field(description="index of its first token among the N")]
    image: Annotated[int, Field(description="index of the image that it shows, from 0")]
    role: Annotated[str, Field(description="whole, tile or thumbnail")]


@dataclass(frozen=True)
class Selected(Used):
    """Which visual tokens stay; of a plan, those alive after its last cut; of another encoding all, and the grids and
    rectangles are its own.
    """

    order: Annotated[list[int], Field(description="(K,) token indices, the first pick first")]
    indices: Annotated[list[int], Field(description="(K,) the same, ascending: what the language model receives")]
    merge_into: Annotated[
        list[int] | None,
        Field(description="(N,) the kept token that absorbs each token, -1 = dropped; null where none is merged"),
    ]
    grids: Annotated[list[Part], Field(description="the grids, which cover the N tokens in order")]
    rects: Annotated[
        list[tuple[float, float, float, float]],
        Field(
            description="(N, 4) x0, y0, x1, y1 of each token, in pixels of its image as listed in sizes; empty "
            "for tokens that are not on a grid"
        ),
    ]
    sizes: Annotated[list[tuple[int, int]], Field(description="width and height of each image or frame, pixels")]
    times: Annotated[
        list[list[float]],
        Field(description="of each clip when the frames that were taken are shown, seconds; [] for an image"),
    ]


@dataclass(frozen=True)
class Cost:
    """What a patch is to one token of an answer."""

    patch: Annotated[int, Field(description="index of a visual token")]
    lost: Annotated[float, Field(description="how much of the token's probability is lost without it, -1 to 1")]


@dataclass(frozen=True)
class AnswerToken:
    """A token of the answer that was looked at."""

    text: Annotated[str, Field(description="what it adds to the answer")]
    patches: Annotated[list[Cost], Field(description="those whose removal costs it most, the largest loss first")]


@dataclass(frozen=True)
class Hanging:
    """The patches that an answer hangs on."""

    way: Annotated[str, Field(description="return: dropped patches that bring it back; need: kept ones it needs")]
    summary: Annotated[str, Field(description="what was found, in a sentence")]
    n: Annotated[int, Field(description="N, visual tokens")]
    budget: Annotated[int, Field(description="K, visual tokens kept")]
    full: Annotated[str, Field(description="answer with all tokens")]
    kept: Annotated[str, Field(description="answer with the kept tokens, unmerged")]
    patches: Annotated[list[int], Field(description="indices of visual tokens, those that change most first")]
    rects: Annotated[
        list[tuple[float, float, float, float]],
        Field(description="x0, y0, x1, y1 of each of these patches, in pixels of its image"),
    ]
    images: Annotated[list[int], Field(description="the image that each of these patches lies in, from 0")]
    fidelities: Annotated[
        list[float], Field(description="0 to 1, after the first 0, 1, … of the patches were returned or taken away")
    ]
    reached: Annotated[bool, Field(description="whether all of them bring the answer back, or lose it")]
    minimal: Annotated[bool, Field(description="whether none of them can be left out alone")]
    measured: Annotated[int, Field(description="sets of patches that were measured")]
    tokens: Annotated[list[AnswerToken], Field(description="the answer's tokens; of the answer with all for return")]


def hanging(engine: Engine, session: Session, step: Step) -> Hanging:
    """The end of a search."""
    found = step.found
    assert found is not None, "it was not stopped"
    encoded = engine.encoded(session)
    shows = [grid.image for grid in encoded.tokens.grids for _ in range(grid.count)]
    tokens = [AnswerToken(each.text, [Cost(*cost) for cost in each.patches]) for each in step.tokens]
    rects = [tuple(encoded.rects[patch].tolist()) for patch in found.patches]
    return Hanging(found.way, summary(found), step.n, step.budget, step.full, step.kept, list(found.patches), rects,
                   [shows[patch] for patch in found.patches], list(found.fidelities), found.reached, found.minimal,
                   found.done, tokens)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """Several settings side by side: the same question about the same images."""

    settings: Annotated[list[Answered], Field(description="the setting that was asked for, then the others, in order")]
    iou: Annotated[
        list[list[float | None]],
        Field(
            description="(S, S) intersection over union of every two kept sets, 0 to 1; sizes that differ keep it low; "
            "of a plan, what is alive after its last cut; null for another encoding, which keeps none of the N tokens"
        ),
    ]


@dataclass(frozen=True)
class Point:
    """A kept set on the plane of importance and diversity."""

    method: Annotated[str, Field(description="key of the pruning method")]
    title: Annotated[str, Field(description="its name")]
    mmr_lambda: Annotated[float | None, Field(description="λ, 0 to 1; null for a method without it")]
    budget: Annotated[int, Field(description="K, visual tokens kept")]
    retention: Annotated[float, Field(description="share of the visual tokens that is kept")]
    importance_retention: Annotated[
        float | None, Field(description="I(S), 0 to 1; null for another encoding, which keeps none of the N tokens")
    ]
    hopkins: Annotated[float | None, Field(description="H(S), 0 to 1, lower is more diverse; null where K is 1")]


@dataclass(frozen=True)
class Tradeoff:
    """Where a setting lies between importance and diversity, and what is left of the answer as fewer tokens stay."""

    plane: Annotated[list[Point], Field(description="λ sweeps and reference strategies at this budget")]
    here: Annotated[Point, Field(description="the setting that was asked for")]
    front: Annotated[list[Point], Field(description="the points of the plane that no other beats")]
    fidelity: Annotated[
        list[FidelityPoint] | None,
        Field(description=f"measured fidelity by method and retention ratio; {WORDLESS}"),
    ]
    left_out: Annotated[list[str], Field(description="why methods or curves that were asked for are not among them")]


@dataclass(frozen=True)
class Recipes:
    """One setting, written for every program that is known."""

    recipes: list[Recipe]


@dataclass(frozen=True)
class Certified:
    """The parity certificate of a setting."""

    certificate: Annotated[
        str,
        Field(
            description="JSON: versions, model revision, pixel limits, N, K, kept indices and their hash, positions, "
            "first log-probabilities; saved as it is, the file that `idpruner verify` reads"
        ),
    ]


def schema(kind: Any) -> dict[str, Any]:
    """JSON schema of one of these values, or of another dataclass."""
    return TypeAdapter(kind).json_schema()


def selected(engine: Engine, session: Session, setting: Setting) -> Selected:
    """Raises ValueError as `Engine.selection` does."""
    selection, encoded = engine.selection(session, setting), engine.shown(session, setting)
    merged = selection.merge_into
    return Selected(
        **_used(engine, session, setting, selection.k, engine.lives(session, setting)),
        order=selection.order.tolist(),
        indices=selection.indices.tolist(),
        merge_into=None if merged is None else merged.tolist(),
        grids=[Part(g.t, g.gh, g.gw, g.start, g.image, g.role) for g in encoded.tokens.grids],
        rects=[(x0, y0, x1, y1) for x0, y0, x1, y1 in encoded.rects.astype(float).round(2).tolist()],
        sizes=[(int(width), int(height)) for width, height in encoded.sizes],
        times=[list(picture.film.times) if picture.film else [] for picture in session.pictures],
    )


def answered(engine: Engine, session: Session, setting: Setting, report: Report) -> Answered:
    """A finished report."""
    names = ("question", "full", "kept", "verdict", "in_world", "outside", "agree", "fidelity", "select_s")
    shared = {name: getattr(report, name) for name in names}
    return Answered(
        **_used(engine, session, setting, report.budget, report.lives),
        **shared,
        positions=setting.positions,
        pieces=list(report.pieces),
        encode_s=report.encode_s,
        encoding=report.encoding,
        speedup=report.speedup,
    )


def tradeoff(points: Sequence[PlanePoint], curves: Sequence[FidelityPoint] | None, left_out: Sequence[str]) -> Tradeoff:
    """points: of `app.tradeoff.measure.plane`, the present setting last. curves: None where there can be none."""
    *swept, here = points
    measured = None if curves is None else list(curves)
    return Tradeoff([point(p) for p in swept], point(here), [point(p) for p in front(swept)], measured, list(left_out))


def point(p: PlanePoint) -> Point:
    """JSON has no NaN: what is not defined becomes None."""
    values = dataclasses.asdict(p)
    defined = {
        name: values[name] if math.isfinite(values[name]) else None for name in ("importance_retention", "hopkins")
    }
    return Point(**{**values, **defined})


def _used(engine: Engine, session: Session, setting: Setting, kept: int, lives: Lives | None) -> dict[str, Any]:
    n = engine.encoded(session).tokens.n
    return used(session.model_name, setting.asked, setting.retention, n, kept, engine.vlm.layers, lives)
