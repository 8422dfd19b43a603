"""One ZIP of what a page shows: overlays at full size, figures, numbers, settings, citations.

Built in memory, a piece at a time, so that it can be stopped between two pieces. Nothing is measured for it but the
answers, which the page has anyway, and the certificate; what was not measured is named in its README.txt.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from app.answers.reports import reports
from app.api import results as api_results
from app.canvas.overlays import depths_of, drawn_as, view
from app.engine.device import Task
from app.engine.engine import Engine
from app.export.files import dominated, figure, lived, packed, readme, table, text
from app.plan import dominance as plan_dominance
from app.recipe.certify import certified
from app.recipe.write import written
from app.session import Session, Setting
from app.share import link as share_link
from app.tradeoff import measure as tradeoff_measure
from app.tradeoff.measure import Measured
from pruning import assets
from pruning.bibliography import bibtex
from pruning.choosing import methods_of, name_of
from pruning.drawing import overlays as draw
from pruning.drawing import strips
from pruning.drawing.palettes import LIGHT
from pruning.evaluation.answered import knobs
from pruning.evaluation.plane import PlanePoint, front
from pruning.evaluation.verdict import NO_MEANING, is_empty
from pruning.handover import certificate as certificates
from pruning.handover.recipes import document
from pruning.plan import Plan
from pruning.runnable import REGISTERED
from pruning.video import Clip

NAME = "idpruner-export.zip"
PIXELS = 24_000_000  # of all pictures together: what bounds an export, as everything else in it is small
LIBRARIES = ("torch", "transformers", "numpy", "gradio")


@dataclass(frozen=True)
class Step:
    """An export under way: what comes next, and how far it is."""

    doing: str
    done: int
    total: int


@dataclass(frozen=True)
class Archive:
    """A finished export: the ZIP file's bytes, and the names in it."""

    data: bytes
    names: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What is exported. style: of the overlays. measured: the fidelity curves on the page, if there are any."""

    session: Session
    setting: Setting
    weights: tuple[float, float]
    style: str
    measured: Measured | None = None

    @property
    def curves(self) -> Measured | None:
        """The curves, where they have a point and are about these images and this question."""
        usable = (
            self.measured is not None
            and self.measured.points
            and self.measured.is_about(self.session, self.setting.positions)
        )
        return self.measured if usable else None


def export(engine: Engine, wanted: Wanted, task: Task) -> Iterator[Step | Archive]:
    """A step before each piece, and last the archive; no archive where `task` was set. Raises as the pieces do."""
    session, setting = wanted.session, wanted.setting
    files: dict[str, bytes] = {}
    notes: list[str] = []
    pieces = len(session.pictures)
    total = pieces + 5
    yield Step("settings and selection", 0, total)
    files["settings.json"] = text(_settings(engine, wanted))
    files["recipe.md"] = document(written(engine, session, setting)).encode()
    chosen = api_results.selected(engine, session, setting)
    files["selection.json"] = text(asdict(chosen))
    if chosen.lives is not None:
        files["lives.csv"] = table(lived(chosen.lives))
    if task.is_set():
        return
    yield Step("answers", 1, total)
    first = None
    if session.questions:
        *_, last = reports(engine, session, setting, task)
        if last.stage == "stopped":
            return
        answered = asdict(api_results.answered(engine, session, setting, last))
        files["answers.json"] = text(answered | {"earlier": [asdict(turn) for turn in last.earlier]})
        first = (*(turn.full for turn in last.earlier), last.full.text)[0]
        if last.verdict is not None and last.verdict.why:
            notes.append(f"{last.verdict.why}.")
    else:
        notes.append("No question was asked, so there are no answers.")
    if (measured := plan_dominance.recalled(engine, session, setting)) is not None:
        files["dominance.csv"] = table(dominated(measured))
    elif setting.staged and session.questions:
        notes.append(
            "Which of text and picture dominates in each layer was not measured, so it is left out: tick it below the "
            "plan on the page, and export again."
        )
    if chosen.lives is not None and wanted.style == "dimmed":
        notes.append(draw.depth_words([life or 0 for life in chosen.lives.lives], chosen.lives.layers))
    if session.questions:
        yield Step("certificate", 2, total)
        files |= _certificate(engine, session, setting)
        if task.is_set():
            return
    for place in range(pieces):
        yield Step(f"overlay {place + 1} of {pieces}", 3 + place, total)
        files |= _pictures(engine, wanted, place, notes, task)
        if task.is_set():
            return
    yield Step("figures", 3 + pieces, total)
    points = tradeoff_measure.plane(engine, session, setting)
    files |= _plane(points)
    if task.is_set():
        return
    files |= _fidelity(engine, wanted, notes, first)
    shown = [setting.asked, *(wanted.curves.methods if wanted.curves else ())]
    used = {name for asked in shown for name in methods_of(asked)} | {point.method for point in points[:-1]}
    files["references.bib"] = bibtex(REGISTERED[name] for name in sorted(used)).encode()
    yield Step("packing", 4 + pieces, total)
    files["README.txt"] = readme(files, notes)
    names = tuple(sorted(files, key=lambda name: (name != "README.txt", name)))
    yield Archive(packed((name, files[name]) for name in names), names)


def _pictures(engine: Engine, wanted: Wanted, place: int, notes: list[str], task: Task) -> dict[str, bytes]:
    """One image as the model is given it, and the overlay and the kept mask on the upload's own pixels; of a clip the
    overlay as a sheet of its frames and as a film. Nothing where `task` is set.
    """
    session, setting, picture = wanted.session, wanted.setting, wanted.session.pictures[place]
    pictures = engine.resources.pictures
    medium = pictures.medium(picture) if picture.film else pictures.original(picture, PIXELS // len(session.pictures))
    if task.is_set():  # of a large image, reading, painting and packing take half a second each
        return {}
    shown, selection = view(engine.shown(session, setting), place, medium), engine.selection(session, setting)
    style = drawn_as(setting, wanted.style)
    scores = engine.heat(session, selection).float().cpu().numpy() if style == "heat" else None
    depths = depths_of(engine, session, setting)
    overlay = shown.painted(selection, style, scores, depths)
    if task.is_set():
        return {}
    if isinstance(medium, Clip):
        drawn = shown.film(selection, style, scores, depths)
        name, seconds = f"clip-{place + 1}-overlay-{style}", medium.seconds_per_frame
        notes.append(f"Clip {place + 1}: {medium.summary}.")
        return {f"{name}.png": draw.png(overlay), f"{name}.mp4": strips.film(drawn, seconds)}
    name, image = f"image-{place + 1}", shown.image
    notes.append(f"Image {place + 1} is drawn at {image.shape[1]} x {image.shape[0]} pixels.")
    kept = draw.kept_mask(image.shape, shown.rects, selection)
    given = np.asarray(engine.images(session)[place])
    return {
        f"{name}.png": draw.png(given),
        f"{name}-overlay-{style}.png": draw.png(overlay),
        f"{name}-kept.png": draw.png(kept),
    }


def _certificate(engine: Engine, session: Session, setting: Setting) -> dict[str, bytes]:
    """Of the pictures as they lie beside it, and of clips by the names that they were uploaded with."""
    names = [
        Path(picture.path).name if picture.film else f"image-{place}.png"
        for place, picture in enumerate(session.pictures, 1)
    ]
    return {"certificate.json": certificates.written(certified(engine, session, setting, names)).encode()}


def _plane(points: Sequence[PlanePoint]) -> dict[str, bytes]:
    *swept, here = points
    best = {id(point) for point in front(swept)}
    rows = [asdict(api_results.point(p)) | {"on_front": id(p) in best, "here": p is here} for p in points]
    return figure("plane", tradeoff_measure.plane_chart(points, LIGHT)) | {"plane.csv": table(rows)}


def _fidelity(engine: Engine, wanted: Wanted, notes: list[str], first: str | None) -> dict[str, bytes]:
    """The curves that there are; what there is not is noted. first: the all-token answer that curves are about."""
    curves = wanted.curves
    if not engine.in_world(wanted.session, wanted.session.first).inside:
        notes.append(f"There can be no fidelity curves. {NO_MEANING}.")
        return {}
    if first is not None and is_empty(first):
        notes.append("There can be no fidelity curves: the first answer with all tokens has no words.")
        return {}
    if curves is None:
        other = wanted.measured is not None and wanted.measured.points
        why = "were measured for another image, question or positions" if other else "were not measured"
        notes.append(f"Fidelity curves {why}, so they are left out: open their tab on the page, and export again.")
        return {}
    if len(curves.points) < curves.total:
        notes.append(f"The fidelity curves were stopped: {len(curves.points)} of {curves.total} points are there.")
    session, setting = wanted.session, wanted.setting
    n, here = engine.encoded(session).tokens.n, engine.budget(session, setting)
    chart = tradeoff_measure.fidelity_chart(curves.points, n, here, LIGHT)
    return figure("fidelity", chart) | {"fidelity.csv": table([asdict(point) for point in curves.points])}


def _settings(engine: Engine, wanted: Wanted) -> dict[str, Any]:
    session, setting, vlm = wanted.session, wanted.setting, engine.vlm
    plan = setting.plan
    example = share_link.example_of(session)
    try:
        link = "?" + share_link.write(share_link.of(session, setting, wanted.weights, wanted.style))
    except ValueError:  # its questions are too long for a link
        link = None
    images = [
        {"sha256": p.key, "width": p.width, "height": p.height} | ({"clip": asdict(p.film)} if p.film else {})
        for p in session.pictures
    ]
    curves = wanted.curves
    return {
        "method": setting.method.name, "knobs": knobs(setting.method), "retention": setting.retention,
        "plan": None if plan is None else name_of(plan),
        "plan_knobs": {method.name: knobs(method) for method in plan.methods} if isinstance(plan, Plan) else {},
        "per": setting.scope, "positions": setting.positions,
        "forced_in": list(setting.forced.ins), "forced_out": list(setting.forced.outs),
        "importance_weight": wanted.weights[0], "diversity_weight": wanted.weights[1], "overlay": wanted.style,
        "questions": list(session.questions), "example": example.name if example else None, "images": images,
        "link": link,
        "curves": [{"method": name_of(m), "knobs": knobs(m)} for m in curves.methods] if curves else [],
        "model": {"id": engine.name, "title": vlm.title, "dtype": str(vlm.dtype).removeprefix("torch."),
                  "device": str(vlm.device), "parameters": vlm.model.num_parameters()},
        "versions": {assets.PROJECT: assets.version(),
                     "python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }  # fmt: skip
