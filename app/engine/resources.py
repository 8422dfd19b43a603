"""What all loaded models share: one device queue, one content cache, the uploaded pictures, the visitors' tasks.

Knows no model, no visitor and no Gradio. Lock order: what fills the cache may wait for the device, never the other way
round, so `device.run` is only wrapped around leaf calls of a model.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.engine.cache import ByteCache
from app.engine.device import Device, Line, Tasks
from app.session import Picture
from pruning.drawing import overlays as draw
from pruning.images import MAX_PIXELS, ImageError, open_image
from pruning.video import kind_of

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PICTURES = 4  # in one question
MOST = 64  # visitors who wait in one line
MEMORY_SHARE = 4  # of the cache's bytes, conversations' keys and values may take this part on top


class Resources:
    """`cache_bytes` bounds all that is kept of content; `upload_bytes` is the largest image file that is read."""

    def __init__(self, cache_bytes: int = 1 << 30, upload_bytes: int = 20 << 20) -> None:
        self.cache = ByteCache(cache_bytes)
        # Apart from the rest: they lie on the device, and a slider leaves one behind at every stop.
        self.memories = ByteCache(max(1, cache_bytes // MEMORY_SHARE))
        self.tasks = Tasks()
        self.device = Device(self.clear)
        # Where visitors' work waits before it begins. Each piece has the device to itself for one call at a time, so
        # these only say whose answer comes first, and bound how much work is held in memory at once.
        self.answers, self.long_work = Line(1, MOST), Line(4, MOST)
        self.timing = Line(1, MOST)  # two measurements at once would slow each other down
        self.uploads, self.drawing = Line(2, MOST), Line(4, MOST)
        self.pictures = Pictures(self.cache, upload_bytes)

    def clear(self) -> None:
        """Forget all content."""
        self.cache.clear()
        self.memories.clear()


class Pictures:
    """Uploaded images by content; their pixels live in the cache, and are read again where it has let them go."""

    def __init__(self, cache: ByteCache, upload_bytes: int) -> None:
        self._cache, self._limit = cache, upload_bytes

    def open(self, path: str) -> tuple[Picture, tuple[str, ...]]:
        """Read an uploaded file; returns the page's handle and notes on what was changed (first frame taken, …).

        Raises ImageError (a ValueError) that says what is wrong with the file and what to do.
        """
        if kind_of(path) == "film":
            raise ImageError(
                "The file is a clip, and pictures alone are taken here: ask about it with `idpruner answer`, or choose "
                "a picture of it"
            )
        image = open_image(path, max_bytes=self._limit)
        digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
        digest.update(image.tobytes())
        picture = Picture(digest.hexdigest(), path, image.width, image.height)
        self._cache.put(("image", picture.key), image, image.width * image.height * 3)
        return picture, tuple(image.info.get("notes", ()))

    def image(self, picture: Picture) -> Image:
        """Its RGB pixels. Raises ValueError when the file is gone or holds something else by now."""
        held: Image | None = self._cache.peek(("image", picture.key))
        if held is not None:
            return held
        if not os.path.exists(picture.path):
            raise ValueError("The image is no longer on the server, which keeps uploads for an hour: upload it again")
        if self.open(picture.path)[0].key != picture.key:
            raise ValueError("The image's file has changed since it was uploaded: upload it again")
        held = self._cache.peek(("image", picture.key))
        return held if held is not None else open_image(picture.path, max_bytes=self._limit)

    def original(self, picture: Picture, most: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: the upload's own pixels, scaled down where there are more than `most` of them; once its file
        is gone, what the models see.
        """
        on_disk = os.path.exists(picture.path)
        whole = (
            open_image(picture.path, max_bytes=self._limit, most_pixels=MAX_PIXELS) if on_disk else self.image(picture)
        )
        share = min(1.0, most / (whole.width * whole.height)) ** 0.5
        return np.asarray(whole) if share == 1 else draw.fit(np.asarray(whole), int(max(whole.size) * share))[0]

    def thumbnail(self, picture: Picture) -> NDArray[np.uint8]:
        """(h, w, 3) uint8, its longest side 96 pixels."""
        return draw.fit(np.asarray(self.image(picture)), 96)[0]


def checked_pictures(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
    """The same pictures. Raises ValueError for none, or for more than one question may have."""
    if not pictures:
        raise ValueError("There is no image: upload one, paste one, or pick an example")
    if len(pictures) > MAX_PICTURES:
        raise ValueError(f"{len(pictures)} images are too many for one question: at most {MAX_PICTURES}, remove some")
    return pictures
