"""What all loaded models share: one device queue, one content cache, the uploaded pictures, the visitors' tasks.

Knows no model, no visitor and no Gradio. Lock order: what fills the cache may wait for the device, never the other way
round, so `device.run` is only wrapped around leaf calls of a model.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.engine.cache import ByteCache
from app.engine.device import CURRENT, Device, DroppedError, Line, Tasks
from app.engine.joining import MOST_TOKENS
from app.session import Film, Picture
from pruning.drawing import overlays as draw
from pruning.images import MAX_PIXELS, open_image
from pruning.video import Clip, Limits, Progress, Sampling, VideoError, kind_of, notes_on, read_clip

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PICTURES = 4  # in one question
USUAL = Sampling()
PICTURES_ALONE = "This is about pictures: choose a picture"
MOST = 64  # visitors who wait in one line
MEMORY_SHARE = 4  # of the cache's bytes, conversations' keys and values may take this part on top


class Resources:
    """`cache_bytes` bounds all that is kept of content; `upload_bytes` is the largest image file that is read;
    `joined` is the most tokens of one pass for several visitors, 0: each has a pass of their own.
    """

    def __init__(self, cache_bytes: int = 1 << 30, upload_bytes: int = 20 << 20, joined: int = MOST_TOKENS) -> None:
        self.joined = joined
        self.cache = ByteCache(cache_bytes)
        # Apart from the rest: they lie on the device, and a slider leaves one behind at every stop.
        self.memories = ByteCache(max(1, cache_bytes // MEMORY_SHARE))
        self.tasks = Tasks()
        self.device = Device(self.clear)
        # Where visitors' work waits before it begins. Each piece has the device to itself for one call at a time, so
        # these only say whose answer comes first, and bound how much work is held in memory at once.
        self.answers, self.long_work = Line(4, MOST), Line(4, MOST)
        self.timing = Line(1, MOST)  # two measurements at once would slow each other down
        self.uploads, self.drawing = Line(2, MOST), Line(4, MOST)
        self.pictures = Pictures(self.cache, upload_bytes)

    def clear(self) -> None:
        """Forget all content."""
        self.cache.clear()
        self.memories.clear()


Opened = tuple[Picture, tuple[str, ...]]
"""The page's handle of a picture or clip, and sentences on what was changed and taken of it."""


class Pictures:
    """Uploaded images and clips by content; their pixels live in the cache, and are read again where it has let them
    go.
    """

    def __init__(self, cache: ByteCache, upload_bytes: int) -> None:
        self._cache, self._limit = cache, upload_bytes

    def open(self, path: str, sampling: Sampling = USUAL, no_clips: str = "") -> Opened:
        """`read` to its end. Same arguments, same errors."""
        *_, opened = self.read(path, sampling, no_clips)
        assert not isinstance(opened, Progress)
        return opened

    def read(self, path: str, sampling: Sampling = USUAL, no_clips: str = "") -> Iterator[Progress | Opened]:
        """Read an uploaded file: of a clip how far that is, and last what came of it.

        sampling: which frames of a clip are taken. no_clips: why none is taken; the first frame is of what moves in a
        picture's format.

        Raises ImageError or VideoError (both ValueError) that says what is wrong with the file and what to do,
        ValueError `no_clips` for a film, and DroppedError where the current task is stopped meanwhile.
        """
        for found in self._loaded(path, sampling, no_clips):
            yield (
                found if isinstance(found, Progress) else (self._handle(found, path, sampling), tuple(notes_on(found)))
            )

    def medium(self, picture: Picture) -> Image | Clip:
        """Its RGB pixels, or its frames. Raises ValueError when the file is gone or holds something else by now."""
        held: Image | Clip | None = self._cache.peek(("image", picture.key))
        if held is not None:
            return held
        if not os.path.exists(picture.path):
            raise ValueError("The image is no longer on the server, which keeps uploads for an hour: upload it again")
        sampling, still = (picture.film.sampling, "") if picture.film else (USUAL, "the first frame is wanted")
        *_, again = self._loaded(picture.path, sampling, still)
        assert not isinstance(again, Progress)
        if self._handle(again, picture.path, sampling).key != picture.key:
            raise ValueError("The image's file has changed since it was uploaded: upload it again")
        return again

    def _loaded(self, path: str, sampling: Sampling, no_clips: str) -> Iterator[Progress | Image | Clip]:
        """As `read`, with what the file holds in the end."""
        kind, task = kind_of(path), CURRENT.get()
        if kind == "film" and no_clips:
            raise ValueError(no_clips)
        if kind is None or no_clips:
            yield open_image(path, max_bytes=self._limit)
            return
        limits = Limits(nbytes=self._limit)
        try:
            yield from read_clip(path, rate=sampling.rate, frames=sampling.frames, limits=limits, cancel=task)
        except VideoError as error:
            if task is not None and task.is_set():
                raise DroppedError(str(error)) from error
            raise

    def _handle(self, medium: Image | Clip, path: str, sampling: Sampling) -> Picture:
        """The page's handle; the pixels are held."""
        width, height = medium.size
        frames = medium.frames if isinstance(medium, Clip) else (medium,)
        digest = hashlib.sha256(f"{width}x{height}".encode())
        for frame in frames:
            digest.update(frame.tobytes())
        film = None
        if isinstance(medium, Clip):
            digest.update(repr(medium.times).encode())
            film = Film(sampling, medium.times, medium.summary)
        picture = Picture(digest.hexdigest(), path, width, height, film)
        self._cache.put(("image", picture.key), medium, width * height * 3 * len(frames))
        return picture

    def original(self, picture: Picture, most: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: the upload's own pixels, scaled down where there are more than `most` of them; once its file
        is gone, what the models see. Of an image.
        """
        on_disk = os.path.exists(picture.path)
        whole = (
            open_image(picture.path, max_bytes=self._limit, most_pixels=MAX_PIXELS) if on_disk else self.frame(picture)
        )
        share = min(1.0, most / (whole.width * whole.height)) ** 0.5
        return np.asarray(whole) if share == 1 else draw.fit(np.asarray(whole), int(max(whole.size) * share))[0]

    def thumbnail(self, picture: Picture) -> NDArray[np.uint8]:
        """(h, w, 3) uint8, its longest side 96 pixels; of a clip the first frame."""
        return draw.fit(np.asarray(self.frame(picture)), 96)[0]

    def shown(self, picture: Picture) -> str | Image:
        """What stands for it in an image field: its file, or a clip's first frame."""
        return self.frame(picture) if picture.film else picture.path

    def frame(self, picture: Picture) -> Image:
        """Its RGB pixels; of a clip those of the first frame."""
        medium = self.medium(picture)
        return medium.frames[0] if isinstance(medium, Clip) else medium


def checked_pictures(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
    """The same pictures, clips behind images, as models read them. Raises ValueError for none, or for more than one
    question may have.
    """
    if not pictures:
        raise ValueError("There is no image: upload one, paste one, or pick an example")
    if len(pictures) > MAX_PICTURES:
        raise ValueError(f"{len(pictures)} images are too many for one question: at most {MAX_PICTURES}, remove some")
    return tuple(sorted(pictures, key=lambda picture: picture.film is not None))
