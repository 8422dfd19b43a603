"""Pictures of a data set, named and hashed before they are opened; none is held.

`digest` is the SHA-256 of what the picture is made from, so that a file that changed under its name is noticed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from PIL import Image

from pruning.images import MAX_BYTES, open_image
from pruning.rgb import ImageError
from pruning.scenes.worlds import WORLDS
from pruning.video import kind_of

CHUNK = 1 << 20


class Picture(Protocol):
    """`name` for people. `digest()` and `open()` raise ValueError, naming the remedy, where it cannot be read."""

    @property
    def name(self) -> str: ...
    def digest(self) -> str: ...
    def open(self) -> Image.Image: ...


@dataclass(frozen=True)
class FilePicture:
    """A file inside the folder of the data set."""

    path: Path
    name: str

    def digest(self) -> str:
        try:
            with self.path.open("rb") as file:
                found = hashlib.sha256()
                while chunk := file.read(CHUNK):
                    found.update(chunk)
        except OSError as error:
            raise ImageError(f"the picture {self.name!r} cannot be read ({error.strerror}): check the path") from error
        return found.hexdigest()

    def open(self) -> Image.Image:
        if kind_of(self.path) == "film":
            raise ImageError(f"{self.name!r} is a clip, and a race is about pictures: leave it out, or name a picture")
        return open_image(self.path)


@dataclass(frozen=True)
class BytesPicture:
    """A picture file that stands in the record itself."""

    data: bytes
    name: str

    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def open(self) -> Image.Image:
        return open_image(self.data)


@dataclass(frozen=True)
class DrawnPicture:
    """A held-out picture of a world, drawn anew each time; its digest is that of its pixels."""

    world: str
    seed: int
    height: int
    width: int
    pixels: str  # SHA-256

    @property
    def name(self) -> str:
        return f"{self.world}-{self.seed}"

    def digest(self) -> str:
        return self.pixels

    def open(self) -> Image.Image:
        return Image.fromarray(WORLDS[self.world].draw(self.seed, self.height, self.width).image)


def named_picture(text: str, folder: Path) -> FilePicture:
    """The file that a record names by a path or a file: URL; it lies inside `folder`.

    Raises ValueError for another kind of URL, for a path that leads out of the folder (also by a link), for one that
    is not there, and for an empty or too large file.
    """
    parts = urlsplit(text)
    if len(parts.scheme) > 1 and parts.scheme != "file":  # one letter: a drive of Windows
        raise ValueError(f"the picture {text!r} is a {parts.scheme} address: put the file into {folder} and name it")
    path = Path(unquote(parts.path) if parts.scheme == "file" else text)
    try:
        inside, whole = folder.resolve(), (folder / path).resolve()
        if not whole.is_relative_to(inside):
            raise ValueError(f"the picture {text!r} lies outside the folder {folder}: put the file into it")
        if not whole.is_file():
            raise ValueError(f"the picture {text!r} is not a file in {folder}: check the path")
        size = whole.stat().st_size
    except OSError as error:
        raise ValueError(f"the picture {text!r} cannot be read ({error.strerror}): check the path") from error
    if not 0 < size <= MAX_BYTES:
        raise ValueError(f"the picture {text!r} has {size:,} bytes, allowed are 1 to {MAX_BYTES:,}: save it again")
    return FilePicture(whole, whole.relative_to(inside).as_posix())
