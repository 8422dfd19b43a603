"""Open an image that somebody uploaded: every kind that is an image becomes RGB, everything else a clear error.

Nothing is decoded before the size in its header is known to be acceptable, and nothing is written to disk.
"""

import io
import os
import re
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pruning.rgb import MOST_PIXELS, as_rgb
from pruning.rgb import ImageError as ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")
SHOWN = 120  # characters of a path that a message repeats


def open_image(
    source: str | Path | bytes | Image.Image,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    most_pixels: int = MOST_PIXELS,
) -> Image.Image:
    """The RGB image that a model sees (`as_rgb`): upright, on white, scaled down to `most_pixels`.

    Of an animation or a multi-page file the first frame is taken. `info["notes"]` of the result is a tuple of sentences
    on what was changed (empty when nothing was); other metadata is dropped. Extreme aspect ratios are accepted here:
    the model refuses those that it cannot take. A path or bytes is safer than an opened PIL image: only then are the
    file limits applied before anything is decoded.

    Args:
        source: a path, a file's bytes, or an opened PIL image. max_bytes: of the file. max_pixels: of the image as it
        comes, and most_pixels: as it is returned.

    Raises:
        ImageError: empty, too large, not an image, damaged, SVG, or more pixels than `max_pixels`.

    >>> image = open_image(Image.new("L", (300, 200)), most_pixels=15_000)
    >>> image.mode, image.size
    ('RGB', (150, 100))
    >>> open_image(b"<svg/>")
    Traceback (most recent call last):
        ...
    pruning.rgb.ImageError: SVG drawings are not supported: export it as PNG
    """
    image = source if isinstance(source, Image.Image) else _open(_read(source, max_bytes), max_pixels)
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"The image has {width}×{height} pixels, more than the {max_pixels / 1e6:g} million allowed: scale it down"
        )
    # A photograph with a preview inside (MPO) counts as several frames as well: no reason for a note.
    several = image.format in ("GIF", "WEBP", "PNG", "TIFF") and _several_frames(image)
    rgb, notes = as_rgb(image, most_pixels)
    clean = Image.new("RGB", rgb.size)
    clean.paste(rgb)
    clean.info["notes"] = (*(("First frame of several.",) if several else ()), *notes)
    return clean


def short(text: str) -> str:
    """As it is, or its beginning: for messages, as a path may be a whole picture in a data: URL.

    >>> short("cat.png"), short("x" * 5_000)[-20:]
    ('cat.png', '… (5,000 characters)')
    """
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 20]}… ({len(text):,} characters)"


def _several_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception as error:  # frames are counted by reading on, which a broken file ends
        raise ImageError(f"The image is damaged or cut off ({error}): save or download it again") from error


def _read(source: str | Path | bytes, max_bytes: int) -> bytes:
    """The file's bytes, at most `max_bytes`: the size is looked up before anything is read."""
    if isinstance(source, bytes):
        size = len(source)
    else:
        try:
            size = os.stat(source).st_size
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error  # without the path, which may be a long one
            raise ImageError(f"The image {short(repr(str(source)))} cannot be read ({why}): check the path") from error
        if not Path(source).is_file():
            raise ImageError(f"{short(repr(str(source)))} is not a file: name an image file")
    if not size:
        raise ImageError("The image file is empty (0 bytes): choose another, or save it again")
    if size > max_bytes:
        raise ImageError(
            f"The image file has {size / 2**20:.1f} MB, more than the {max_bytes / 2**20:g} MB allowed: scale it down "
            "or save it as JPEG"
        )
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        why = f"{short(repr(str(source)))} cannot be read ({error.strerror})"
        raise ImageError(f"The image {why}: check its permissions") from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header alone."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head):
        raise ImageError("SVG drawings are not supported: export it as PNG")
    if data[4:8] == b"ftyp":  # the first brand may be a general one; the others follow it
        brands = data[8 : 8 + min(64, int.from_bytes(data[:4], "big"))]
        if b"avif" in brands or b"avis" in brands:
            raise ImageError("AVIF pictures are not supported: export it as PNG or JPEG")
        if any(brand in brands for brand in HEIC):
            raise ImageError("HEIC photographs are not supported: export it as JPEG")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"The file is not an image of a known kind: use one of {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found = re.search(r"\d+", str(error))  # Pillow gives the header's number in its message alone
        many = f"{int(found[0]) / 1e6:,.0f} million" if found else "far too many"
        raise ImageError(
            f"The image has {many} pixels, more than the {max_pixels / 1e6:g} million allowed: scale it down"
        ) from error
    except Exception as error:
        raise ImageError(f"The image is damaged ({error}): save or download it again") from error
