"""What a file is by its first bytes, and what its header says of the codec. Nothing is decoded; no name is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

Kind = Literal["film", "picture"]
START = 64  # bytes that tell what a file is
HEAD = 1 << 22  # bytes within which the tracks of Matroska and AVI are described
BOXES = 10_000  # of one file, at most
ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
STILLS = (b"avif", b"heic", b"heix", b"mif1")  # photographs in a film's container
READABLE = {
    "H.264": ("avc1", "avc3", "h264", "V_MPEG4/ISO/AVC"),
    "H.265": ("hvc1", "hev1", "hevc", "V_MPEGH/ISO/HEVC"),
    "VP8": ("vp08", "vp80", "V_VP8"),
    "VP9": ("vp09", "vp90", "V_VP9"),
    "MPEG-4": ("mp4v", "fmp4", "xvid", "divx", "V_MPEG4/ISO/ASP"),
    "Motion JPEG": ("mjpg", "jpeg", "mjpa", "V_MJPEG"),
    "ProRes": ("apch", "apcn", "apcs", "apco", "ap4h"),
    "FFV1": ("ffv1", "V_FFV1", "V_MS/VFW/FOURCC"),
}
OTHERS = {"av01": "AV1", "V_AV1": "AV1", "vvc1": "H.266"}


class Container(NamedTuple):
    """A kind of file. demuxer: FFmpeg's name of the only reader that may open it. counted: whether the header says how
    many frames there are; where it does not, FFmpeg multiplies length by rate, which a varying rate makes wrong.
    """

    name: str
    kind: Kind
    demuxer: str = ""
    counted: bool = True


MP4 = Container("MP4 or MOV", "film", "mov,mp4,m4a,3gp,3g2,mj2")
MATROSKA = Container("WebM or Matroska", "film", "matroska,webm", counted=False)
AVI = Container("AVI", "film", "avi")
GIF, WEBP, PNG = (Container(name, "picture") for name in ("GIF", "animated WebP", "animated PNG"))
CONTAINERS = (MP4, MATROSKA, AVI, GIF, WEBP, PNG)


def container(path: Path) -> Container | None:
    """What moves in the file at `path`; None for still pictures and everything else. Raises OSError as `open`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "list.mp4")
    ...     _ = file.write_text("#EXTM3U")
    ...     container(file)
    """
    with path.open("rb") as file:
        head = file.read(START)
        if head[4:8] in ATOMS:
            return None if head[4:8] == b"ftyp" and any(brand in head[8:] for brand in STILLS) else MP4
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            return MATROSKA
        if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
            return AVI
        if head.startswith((b"GIF87a", b"GIF89a")):
            return GIF if _moves(file) else None
        if head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X" and head[20] & 2:  # the flag of an animation
            return WEBP
        return PNG if head.startswith(b"\x89PNG\r\n\x1a\n") and head[37:41] == b"acTL" else None


def codec(path: Path, of: Container) -> str | None:
    """How the header of a film calls the codec of its first video track; "" where it has no header, None where it has
    no such track.
    """
    with path.open("rb") as file:
        if of == MP4:
            return _mp4_codec(file, path.stat().st_size)
        head = file.read(HEAD)
    if of == AVI:
        found = re.search(rb"strh....vids(....)", head, re.DOTALL)
        return _text(found[1]) if found else None
    tracks = [dict(_elements(entry)) for name, entry in _nested(head) if name == b"\xae"]
    names = [_text(track.get(b"\x86", b"")) for track in tracks if track.get(b"\x83") == b"\x01"]
    return names[0] if names else None if tracks else ""


def codec_title(code: str) -> tuple[str, bool]:
    """What people call a codec, and whether it is one that is always read."""
    for title, codes in READABLE.items():
        if any(code.lower() == known.lower() for known in codes):
            return title, True
    return OTHERS.get(code, code), False


def _moves(file: BinaryIO) -> bool:
    """Whether a GIF has a second frame. A broken one has none."""
    from PIL import Image

    try:
        return bool(getattr(Image.open(file, formats=("GIF",)), "is_animated", False))
    except Exception:  # Pillow raises whatever a broken file leads it to; whoever opens it as a picture tells why
        return False


def _mp4_codec(file: BinaryIO, size: int) -> str | None:
    movie = next((span for name, *span in _boxes(file, 0, size) if name == b"moov"), None)
    if movie is None:
        return ""
    for track in (span for name, *span in _boxes(file, *movie) if name == b"trak"):
        found = {name: start for name, start, _ in _descend(file, *track)}
        if b"hdlr" in found and _read(file, found[b"hdlr"] + 8, 4) == b"vide" and b"stsd" in found:
            return _text(_read(file, found[b"stsd"] + 12, 4))
    return None


def _descend(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of a track that describe it; what its data handler says lies deeper and is left out."""
    for name, first, last in _boxes(file, start, stop):
        yield name, first, last
        if name in (b"mdia", b"minf", b"stbl"):
            yield from (box for box in _descend(file, first, last) if (name, box[0]) != (b"minf", b"hdlr"))


def _boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start and stop of what is in it) of the boxes of MP4 from `start` to `stop`."""
    for _ in range(BOXES):
        if stop - start < 8:
            return
        head = _read(file, start, 16)
        size, skip = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, skip = int.from_bytes(head[8:16], "big"), 16
        size = size or stop - start
        if size < skip:
            return
        yield head[4:8], start + skip, min(start + size, stop)
        start += size


def _nested(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of the tracks of a Matroska file, by way of what they lie in."""
    for name, inside in _elements(data):
        if name in (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"):  # Segment, Tracks
            yield from _nested(inside)
        else:
            yield name, inside


def _elements(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of the elements of Matroska side by side in `data`; one of unknown size takes all the rest."""
    at = 0
    while at < len(data) and data[at]:
        length = 9 - data[at].bit_length()
        name, at = data[at : at + length], at + length
        if at >= len(data) or not data[at]:
            return
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        at += width
        size = len(data) - at if size == (1 << 7 * width) - 1 else size
        yield name, data[at : at + size]
        at += size


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode("latin-1")
