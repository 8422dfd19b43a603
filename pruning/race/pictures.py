"""Pictures and clips of a data set, named and hashed before they are opened; none is held.

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
from pruning.video import LIMITS, Clip, Sampling, kind_of, open_media

CHUNK = 1 << 20
FILMS = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"})
"""Endings of clips in a folder; what a file is, its first bytes say."""
Medium = Image.Image | Clip
USUAL = Sampling()


class Picture(Protocol):
    """`name` for people. `digest()` and `open()` raise ValueError, naming the remedy, where it cannot be read.

    usual: which frames a model takes of a clip where nothing else is asked for; no_clips: why it takes none, "" where
    it does. A film is refused then, and the first frame is of what moves in a picture's format.
    """

    @property
    def name(self) -> str: ...
    def digest(self) -> str: ...
    def open(self, usual: Sampling = ..., no_clips: str = ...) -> Medium: ...


@dataclass(frozen=True)
class FilePicture:
    """A file inside the folder of the data set. fps, max_frames: of a clip, in the place of what a model takes."""

    path: Path
    name: str
    fps: float | None = None
    max_frames: int | None = None

    def digest(self) -> str:
        try:
            with self.path.open("rb") as file:
                found = hashlib.sha256()
                while chunk := file.read(CHUNK):
                    found.update(chunk)
        except OSError as error:
            raise ImageError(f"the picture {self.name!r} cannot be read ({error.strerror}): check the path") from error
        return found.hexdigest()

    def sampling(self, usual: Sampling = USUAL, no_clips: str = "") -> Sampling | None:
        """Which frames are taken of it; None of a picture. Raises ValueError for a film where none is taken."""
        kind = kind_of(self.path)
        if kind == "film" and no_clips:
            raise ValueError(f"{self.name!r} is a clip. {no_clips}")
        if kind is None or no_clips:
            return None
        return usual.but(self.fps, self.max_frames)

    def open(self, usual: Sampling = USUAL, no_clips: str = "") -> Medium:
        sampling = self.sampling(usual, no_clips)
        return open_image(self.path) if sampling is None else open_media(self.path, sampling)


@dataclass(frozen=True)
class BytesPicture:
    """A picture file that stands in the record itself."""

    data: bytes
    name: str

    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def open(self, usual: Sampling = USUAL, no_clips: str = "") -> Image.Image:
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

    def open(self, usual: Sampling = USUAL, no_clips: str = "") -> Image.Image:
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
    most = LIMITS.nbytes if kind_of(whole) == "film" else MAX_BYTES
    if not 0 < size <= most:
        raise ValueError(f"the picture {text!r} has {size:,} bytes, allowed are 1 to {most:,}: save it again")
    return FilePicture(whole, whole.relative_to(inside).as_posix())
