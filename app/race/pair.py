"""Two settings of a run at one question: what each said, and what each kept of the picture."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from app.canvas import overlays
from app.canvas.overlays import Overlay
from app.engine.engine import Engine
from app.session import Session, Setting
from app.web.uploads import VARIABLE
from pruning.plan import Plan
from pruning.published import Published
from pruning.race.data import open_data, picture_of
from pruning.race.folder import Cell, Manifest, Result
from pruning.race.pictures import FilePicture
from pruning.race.records import asked
from pruning.race.settings import setting_of
from pruning.runnable import made
from pruning.video import kind_of

FIRST = "idpruner"  # stands where no method runs: of all tokens it keeps all


@dataclass(frozen=True)
class Pair:
    """The question at `place`, from 0, of `count` where two settings have another score.

    names, titles: of the two, as the run and as a reader calls them. better: at how many of these each has the higher
    score. whole: what all tokens said. painted: an overlay each, or none with `why` not.
    """

    result: Result
    place: int
    count: int
    names: tuple[str, str]
    titles: tuple[str, str]
    better: tuple[int, int]
    whole: Cell | None
    painted: tuple[Overlay, ...] = ()
    why: str = ""


def painted(engine: Engine, manifest: Manifest, result: Result, names: tuple[str, str]) -> tuple[Overlay, ...]:
    """What each setting keeps of the picture. Raises ValueError where the picture is gone or has changed, the engine's
    model is another one, or a setting cannot run any more.
    """
    if engine.vlm.model_id != manifest.model:
        raise ValueError(f"What each kept is drawn with {manifest.title}: choose that model on the view Explore")
    path, question = shown_to(manifest, result)
    sampling = engine.vlm.sampling.but(*taken_of(manifest))
    picture, _ = engine.resources.pictures.open(path, sampling, engine.vlm.no_clips)
    session = Session(engine.name, (picture,), (question,))
    return tuple(
        overlay
        for name in names
        for overlay in overlays.overlays(engine, session, page_setting(manifest, name), "dimmed")
    )


def shown_to(manifest: Manifest, result: Result) -> tuple[str, str]:
    """Path of the picture or clip, among uploads, and the question as the model was asked it. Raises ValueError where
    the picture is gone or has changed.
    """
    uploads = Path(os.environ[VARIABLE])
    path = next(uploads.glob(f"race-{result.digest}.*"), None)
    if path is None:
        picture = picture_of(open_data(manifest.source, **manifest.reading), result)
        film = picture.path if isinstance(picture, FilePicture) and kind_of(picture.path) is not None else None
        suffix = film.suffix.lower() if film else ".png"
        whole = uploads / f"race-{result.digest}{suffix}"
        path = uploads / f"{uuid4().hex}{suffix}"  # until it is there in full: others look at the same run
        if film:
            shutil.copyfile(film, path)
        else:
            picture.open().save(path)  # type: ignore[union-attr]  # nothing moves in it
        path = path.replace(whole)
    return str(path), asked(result.question, result.choices, manifest.reading["suffix"])


def taken_of(manifest: Manifest) -> tuple[float | None, int | None]:
    """Which frames of clips the run took, each second and in all, where it was told to take others than the model's."""
    return manifest.reading.get("fps"), manifest.reading.get("max_frames")


def page_setting(manifest: Manifest, name: str) -> Setting:
    """A setting of a run as the page has them. Raises ValueError as `setting_of`."""
    setting, how = setting_of(manifest.settings[name]), manifest.how
    where = {"scope": how["per"], "positions": how["positions"]}
    if setting.asked is None:
        return Setting(made(FIRST, {}), 1.0, **where)
    if isinstance(setting.asked, Plan | Published):
        return Setting(made(FIRST, {}), 1.0, plan=setting.asked, **where)
    return Setting(setting.asked, setting.retention or 1.0, **where)
