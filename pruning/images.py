"""Open an image that somebody uploaded: every kind that is an image becomes RGB, everything else a clear error.

Nothing is decoded before the size in its header is known to be acceptable, and nothing is written to disk.
"""

import io
import os
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
MAX_SIDE = 2048  # more than any grid of visual tokens can show, and small enough to redraw while a slider moves
ORIENTATION = 0x0112  # EXIF tag


class ImageError(ValueError):
    """Not a usable image. The message names the cause and the remedy."""


def open_image(
    source: str | Path | bytes | Image.Image,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    max_side: int = MAX_SIDE,
) -> Image.Image:
    """RGB image, upright (EXIF rotation applied), transparency composited on white, longest side at most `max_side`.

    Of an animation or a multi-page file the first frame is taken, and 16-bit greyscale is scaled to 8 bits rather than
    clipped. `info["notes"]` of the result is a tuple of sentences on what was changed (empty when nothing was);
    other metadata is dropped. Extreme aspect ratios are accepted here: the model refuses those that it cannot take.
    A path or bytes is safer than an opened PIL image: only then are the file limits applied before anything is decoded.

    Raises:
        ImageError: empty, too large, not an image, damaged, SVG, or more pixels than `max_pixels`.
    """
    image = source if isinstance(source, Image.Image) else _open(_read(source, max_bytes), max_pixels)
    width, height = image.size
    if not width or not height:
        raise ImageError(f"The image has {width}×{height} pixels: choose one with at least 1×1")
    if width * height > max_pixels:
        raise ImageError(
            f"The image has {width}×{height} pixels, more than the {max_pixels / 1e6:g} million allowed: scale it down"
        )
    notes = []
    try:
        # A photograph with a preview inside (MPO) counts as several frames as well: no reason for a note.
        if image.format in ("GIF", "WEBP", "PNG", "TIFF") and getattr(image, "is_animated", False):
            notes.append("First frame of several.")
        if image.getexif().get(ORIENTATION, 1) != 1:
            notes.append("Turned upright, as its EXIF data say.")
        image.load()
        upright = ImageOps.exif_transpose(image)
        rgb = _to_rgb(upright)
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise ImageError(f"The image is damaged or cut off ({error}): save or download it again") from error
    scale = max_side / max(rgb.size)
    if scale < 1 and min(rgb.size) * scale >= 1:  # one that is thinner keeps its size: the model's refusal names it
        notes.append(f"Scaled down from {rgb.width}×{rgb.height} pixels.")
        rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.LANCZOS)
    clean = Image.new("RGB", rgb.size)
    clean.paste(rgb)
    clean.info["notes"] = tuple(notes)
    return clean


def _read(source: str | Path | bytes, max_bytes: int) -> bytes:
    """The file's bytes, at most `max_bytes`: the size is looked up before anything is read."""
    if isinstance(source, bytes):
        size = len(source)
    else:
        try:
            size = os.stat(source).st_size
        except (OSError, ValueError) as error:
            raise ImageError(f"The image {str(source)!r} cannot be read ({error}): check the path") from error
        if not Path(source).is_file():
            raise ImageError(f"{str(source)!r} is not a file: name an image file")
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
        raise ImageError(f"The image {str(source)!r} cannot be read ({error}): check its permissions") from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header alone."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head):
        raise ImageError("SVG drawings are not supported: export it as PNG")
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _wide_grey(image)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _wide_grey(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits. 16 bits: 65535 is white. Numbers of another range: darkest to lightest."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    low, high = values.min(), values.max()
    if image.mode != "F" and low >= 0 and (image.mode.startswith("I;16") or 255 < high <= 65535):
        values = values / 257
    elif image.mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        values = (values - low) / (high - low) * 255
    return Image.fromarray(np.round(values).astype(np.uint8)).convert("RGB")
