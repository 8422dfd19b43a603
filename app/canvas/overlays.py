"""The images of a session with what is kept of each, painted at display size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.canvas.payload import OFF
from app.engine.engine import Engine
from app.session import Session, Setting
from pruning.drawing import overlays as draw
from pruning.drawing import strips
from pruning.drawing.paint import seen
from pruning.video import Clip

if TYPE_CHECKING:
    from PIL.Image import Image

    from pruning.models import Encoded
    from pruning.models.language.trace import Trace
    from pruning.tokens import Selection

ALONE, AMONG_OTHERS = 768, 512  # longest side, pixels
OUTSIDE = 8  # pixels beyond the frame


@dataclass(frozen=True)
class View:
    """What an overlay is painted on: (H, W, 3) uint8 at display size, and the rectangles (N, 4) of all tokens.

    frames: of a clip, else the image alone. times: of each frame, seconds; () for an image. steps: (N,) int64 of the
    clip, from 0; 0 for all tokens of an image, -1 for those of other images, whose rectangles are empty and lie outside
    of the picture. taken: which of the frames have tokens, where others were left out; (): all.
    """

    frames: tuple[NDArray[np.uint8], ...]
    rects: NDArray[np.float32]
    steps: NDArray[np.int64]
    times: tuple[float, ...] = ()
    taken: tuple[int, ...] = ()

    @property
    def image(self) -> NDArray[np.uint8]:
        return self.frames[0]

    @property
    def own(self) -> NDArray[np.bool_]:
        """(N,) which tokens are this image's."""
        return self.steps >= 0

    def painted(
        self,
        selection: Selection,
        style: str,
        scores: NDArray[np.float32] | None,
        depths: NDArray[np.float32] | None,
    ) -> NDArray[np.uint8]:
        """The image as `overlay` paints it; of a clip a sheet of its frames."""
        if not self.times:
            return draw.overlay(self.image, self.rects, selection, style, scores, depths)
        return strips.contact_sheet(
            self.frames, self.times, self.rects, self.steps, selection, style, scores, depths, self.longest, self.taken
        )

    def film(
        self,
        selection: Selection,
        style: str,
        scores: NDArray[np.float32] | None,
        depths: NDArray[np.float32] | None,
    ) -> list[NDArray[np.uint8]]:
        """The frames of a clip as `overlay` paints each."""
        return strips.strip(self.frames, self.rects, self.steps, selection, style, scores, depths, self.taken)

    @property
    def _sheet(self) -> list[int]:
        """The frames that `painted` shows of a clip."""
        return strips.on_sheet(len(self.frames), self.steps, self.taken)

    @property
    def longest(self) -> int:
        """Pixels along the longer side of a frame as `painted` has it."""
        high, wide = self.image.shape[:2]
        if not self.times:
            return max(high, wide)
        return min(max(high, wide), strips.side(len(self._sheet), (wide, high)))

    def spot(self, token: int) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) pixels: where one of its own tokens lies on what `painted` gives."""
        x0, y0, x1, y1 = self.rects[token].tolist()
        if not self.times:
            return x0, y0, x1, y1
        high, wide = self.image.shape[:2]
        share = self.longest / max(high, wide)
        size = (round(wide * share), round(high * share))
        of = strips.steps_of(len(self.frames), self.steps, self.taken)
        at = self._sheet.index(of.index(int(self.steps[token])))
        x, y = strips.corner(at, len(self._sheet), size)
        return x + x0 * share, y + y0 * share, x + x1 * share, y + y1 * share


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

    @property
    def shown(self) -> tuple[int, int, str]:
        """Width, height and address, as a page shows it."""
        height, width = self.image.shape[:2]
        return width, height, draw.data_url(self.image)


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
        image = view.painted(selection, style, scores, depths)
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
        return tuple(view(encoded, place, medium, longest) for place, medium in enumerate(engine.images(session)))

    return engine.memo(
        session,
        ("views", encoded.tokens.n, encoded.taken),
        make,
        lambda made: sum(frame.nbytes for v in made for frame in v.frames) + sum(v.rects.nbytes for v in made),
    )


def view(encoded: Encoded, place: int, medium: Image | Clip | NDArray[np.uint8], longest: int | None = None) -> View:
    """The image or clip at `place`, or a copy of it in another size, with the token rectangles that fit it.

    longest: pixels of the longest side, of a clip of the sheet's; None: as it is.
    """
    shows = encoded.tokens.images.numpy() == place
    given: list[Any] = [medium]
    times: tuple[float, ...] = ()
    some = encoded.taken[place] if encoded.taken else ()
    if isinstance(medium, Clip):
        given, times = list(medium.frames), medium.times
        shown = len(given) if some else next(grid.t for grid in encoded.tokens.grids if grid.image == place)
        longest = longest and max(strips.LEAST, longest // strips.columns(shown, medium.size))
    frames = [np.asarray(each) if longest is None else draw.fit(np.asarray(each), longest)[0] for each in given]
    height, width = frames[0].shape[:2]
    given_width, given_height = encoded.sizes[place]
    rects = encoded.rects * np.array([width / given_width, height / given_height] * 2)
    rects[~shows] = np.array([width, height] * 2) + OUTSIDE  # no area, and no line in the frame
    numbers = encoded.tokens.pictures.numpy()
    own = np.where(shows, numbers - numbers[shows].min() if times else 0, -1)
    return View(tuple(frames), rects.astype(np.float32), own, times, some)
