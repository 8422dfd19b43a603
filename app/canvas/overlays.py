"""The images of a session with what is kept of each, painted at display size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.canvas.payload import OFF
from app.engine.engine import Engine
from app.session import Session, Setting
from pruning.drawing import overlays as draw
from pruning.drawing.paint import seen

if TYPE_CHECKING:
    from pruning.models import Encoded
    from pruning.models.language.trace import Trace

ALONE, AMONG_OTHERS = 768, 512  # longest side, pixels
OUTSIDE = 8  # pixels beyond the frame


@dataclass(frozen=True)
class View:
    """What an overlay is painted on: image (H, W, 3) uint8 at display size, and the rectangles (N, 4) of all tokens.

    Those of other images are empty and lie outside the frame. own: (N,) bool, which tokens are this image's.
    """

    image: NDArray[np.uint8]
    rects: NDArray[np.float32]
    own: NDArray[np.bool_]


@dataclass(frozen=True)
class Overlay:
    """A painted image (H, W, 3) uint8 RGB, and how many of its n tokens are kept.

    depths: (layers that have run, how much is seen of the colours of patches that leave then, 0 to 1) of every cut that
    it shows; none in a style that shows no depth.
    """

    image: NDArray[np.uint8]
    kept: int
    n: int
    depths: tuple[tuple[int, float], ...] = ()


def overlays(engine: Engine, session: Session, setting: Setting, style: str) -> tuple[Overlay, ...]:
    """Every image of the session under this setting. Raises ValueError for an unknown style."""
    selection = engine.selection(session, setting)
    style = drawn_as(setting, style)
    scores = engine.heat(session, selection).float().cpu().numpy() if style == "heat" else None
    depths = depths_of(engine, session, setting)
    cuts = shades(engine.trace(session, setting)) if setting.staged and style == "dimmed" else ()
    kept = selection.mask.cpu().numpy()
    painted = []
    for view in views(engine, session, setting):
        image = draw.overlay(view.image, view.rects, selection, style, scores, depths)
        painted.append(Overlay(image, int(kept[view.own].sum()), int(view.own.sum()), cuts))
    return tuple(painted)


def depths_of(engine: Engine, session: Session, setting: Setting) -> NDArray[np.float32] | None:
    """(N,) the share of the layers that process each token; None where none leaves between layers."""
    return engine.trace(session, setting).depths.cpu().numpy() if setting.staged else None


def shades(trace: Trace) -> tuple[tuple[int, float], ...]:
    """`Overlay.depths` of what came of a plan."""
    layers = len(trace.alive)
    return tuple((life, seen(life / layers)) for life in trace.lives.unique().tolist() if 0 < life < layers)


def drawn_as(setting: Setting, style: str) -> str:
    """The style in which a setting is drawn: that of the grid, where the wanted one shows nothing of it."""
    return "grid" if setting.encoding is not None and style in OFF else style


def views(engine: Engine, session: Session, setting: Setting) -> tuple[View, ...]:
    """Every image at display size with the rectangles of the tokens that the setting chooses among."""
    encoded = engine.shown(session, setting)

    def make() -> tuple[View, ...]:
        longest = ALONE if len(session.pictures) == 1 else AMONG_OTHERS
        images = [np.asarray(image) for image in engine.images(session)]
        return tuple(view(encoded, place, draw.fit(image, longest)[0]) for place, image in enumerate(images))

    return engine.memo(
        session, ("views", encoded.tokens.n), make, lambda made: sum(v.image.nbytes + v.rects.nbytes for v in made)
    )


def view(encoded: Encoded, place: int, image: NDArray[np.uint8]) -> View:
    """The image at `place`, or a copy of it in another size, with the token rectangles that fit it."""
    shows = np.concatenate([np.full(grid.count, grid.image) for grid in encoded.tokens.grids])
    height, width = image.shape[:2]
    given_width, given_height = encoded.sizes[place]
    rects = encoded.rects * np.array([width / given_width, height / given_height] * 2)
    rects[shows != place] = np.array([width, height] * 2) + OUTSIDE  # no area, and no line in the frame
    return View(image, rects.astype(np.float32), shows == place)
