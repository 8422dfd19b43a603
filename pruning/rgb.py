"""From an image of any kind to the pixels that a model sees: RGB, upright, on white, no more than memory can hold.

The one way there: uploads, the command line, records and `VLM.encode` all take it. Knows no file and no model.
"""

from __future__ import annotations

from contextlib import suppress
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_PIXELS = 1 << 24  # the largest token limit of any family: 16,384 tokens of 32 × 32 pixels; 48 MiB as RGB
ORIENTATION = 0x0112  # EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
UNSIGNED = 1  # sample format
DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners write into 16
PACKED = {"L;2": 85, "L;4": 17}  # grey of fewer bits -> what it is multiplied by; the transparent value is not


class ImageError(ValueError):
    """Not a usable image. The message names the cause and the remedy."""


def as_rgb(image: Image.Image, most: int = MOST_PIXELS) -> tuple[Image.Image, tuple[str, ...]]:
    """RGB pixels, and sentences on what was changed to get them (none for most images).

    EXIF rotation is applied, transparency lies on white, more than 8 bits are scaled to what the image holds, and more
    than `most` pixels are scaled down. An image that has been through here comes back as it is, and as quickly.

    Raises:
        ImageError: no pixels, or damaged ones.
    """
    if not image.width or not image.height:
        raise ImageError(f"The image has {image.width}×{image.height} pixels: choose one with at least 1×1")
    notes: list[str] = []
    try:
        stored = _rawmode(image)
        turned = _orientation(image)
        image.load()  # turns a TIFF by itself
        if turned in TURNS:
            notes.append("Turned upright, as its EXIF data say.")
        turn = TURNS.get(_orientation(image))
        rgb = _to_rgb(image, stored, notes)
        upright = rgb if turn is None else rgb.transpose(turn)
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise ImageError(f"The image is damaged or cut off ({error}): save or download it again") from error
    size = fitting(upright.size, most)
    if size != upright.size:
        notes.append(
            f"Scaled down from {upright.width}×{upright.height} to {size[0]}×{size[1]} pixels: "
            f"at most {most / 1e6:.1f} million are held in memory."
        )
        upright = upright.resize(size, Image.Resampling.LANCZOS)
    return upright, tuple(notes)


def fitting(size: tuple[int, int], most: int) -> tuple[int, int]:
    """(width, height) of at most `most` pixels, never more elongated than before; the same where that is so already.

    What has no room for a pixel on its short side keeps its size: the model's refusal names it.
    """
    short, long = sorted(size)
    if short * long <= most or short * most < long:
        return size
    # Rounding the short side down, and the long one after it, neither exceeds the area nor an allowed aspect ratio.
    less = isqrt(most * short // long)
    more = less * long // short
    return (less, more) if size[0] == short else (more, less)


def _orientation(image: Image.Image) -> int:
    """As EXIF counts it; 1, which is upright, also for numbers that say nothing and data that cannot be read."""
    with suppress(Exception):  # damaged metadata leave the picture as good as it was
        value = image.getexif().get(ORIENTATION)
        return int(value) if value in TURNS else 1
    return 1


def _rawmode(image: Image.Image) -> str:
    """How the file stores its pixels, told only before they are loaded."""
    tiles: list[Any] = getattr(image, "tile", [])
    args = tiles[0][3] if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _to_rgb(image: Image.Image, stored: str, notes: list[str]) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _wide_grey(image, notes)
    if ";16" in stored and image.mode in ("RGB", "RGBA", "LA"):
        image = _brightened(image, notes)
    clear = image.info.get("transparency")
    if clear is None and image.mode == "RGB":
        return image
    if clear is None and image.mode not in ("RGBA", "RGBa", "LA", "La", "PA"):
        return image.convert("RGB")
    if isinstance(clear, tuple) and max(clear) > 255:  # of 16 bits, as the file has it; the pixels have 8
        image = _with_info(image, tuple(value >> 8 for value in clear))
    elif stored in PACKED and isinstance(clear, int):
        image = _with_info(image, clear * PACKED[stored])
    # Pillow takes premultiplied grey no further than to grey with alpha.
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _with_info(image: Image.Image, transparency: object) -> Image.Image:
    copy = image.copy()
    copy.info["transparency"] = transparency
    return copy


def _brightened(image: Image.Image, notes: list[str]) -> Image.Image:
    """Colours of 16 bits, of which Pillow keeps the upper 8: brighter where a scan fills the lower bits alone."""
    bands = image.split()
    colours = bands[: 1 if image.mode == "LA" else 3]
    high = max(int(np.asarray(band).max()) for band in colours)
    if not high:
        notes.append("Black: its 16-bit colours all lie below 256 of 65,535.")
    bits = _bits(high * 256 + 255)
    if bits == 16 or not high:
        return image
    notes.append(f"Brightened: its 16-bit colours fill {bits} bits, of which {bits - 8} are shown.")
    table = [min(255, round(value * 255 / (2 ** (bits - 8) - 1))) for value in range(256)]
    merged = Image.merge(image.mode, [*(band.point(table) for band in colours), *bands[len(colours) :]])
    merged.info.update({name: value for name, value in image.info.items() if name != "transparency"})
    return merged


def _wide_grey(image: Image.Image, notes: list[str]) -> Image.Image:
    """Greyscale of more than 8 bits."""
    tags = getattr(image, "tag_v2", {})
    declared = tags.get(BITS_PER_SAMPLE, (0,))[0]
    raw = np.asarray(image)
    if image.mode == "I" and declared == 32 and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED:
        raw = raw.astype(np.int32).view(np.uint32)  # which Pillow reads as signed
    values = raw.astype(np.float64)
    clear = values == image.info["transparency"] if "transparency" in image.info else np.zeros(values.shape, bool)
    broken = ~np.isfinite(values)
    if broken.any():
        notes.append(f"{int(broken.sum()):,} of its values are not finite numbers: they are shown black.")
    counted = values[~(clear | broken)]
    grey = np.where(broken, 0, _eight_bits(np.where(broken, 0, values), counted, image.mode, declared, notes))
    if tags.get(PHOTOMETRIC) == 0:  # white is zero, which Pillow heeds for 8 bits alone
        grey = 255 - grey
    grey[clear] = 255
    return Image.fromarray(np.round(grey).clip(0, 255).astype(np.uint8)).convert("RGB")


def _eight_bits(
    values: NDArray[np.float64], counted: NDArray[np.float64], mode: str, declared: int, notes: list[str]
) -> NDArray[np.float64]:
    """From 0 to 255. Whole numbers: the fewest bits that hold them all are the full range. Others: their own range.

    counted: the values among them that say what the range is. A PNG's chunk of significant bits is not asked: by the
    format its values are scaled up to 16 bits already, and where they are not the values themselves say so.
    """
    low, high = (float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)
    if mode == "F" and low >= 0 and high <= 255:
        return values * 255 if high <= 1 else values
    if mode == "F" or low < 0 or high > 65535:
        notes.append(f"Stretched to black and white: its values go from {low:g} to {high:g}.")
        return (values - low) / ((high - low) or 1) * 255
    bits = declared if 8 < declared < 16 else _bits(high)
    if bits < 16 and bits != declared and high and (mode != "I" or bits > 8):
        notes.append(f"Brightened: its values go up to {high:,.0f} of 65,535, so they are taken for {bits} bits.")
    return values * (255 / (2**bits - 1))


def _bits(high: float) -> int:
    return next(bits for bits in DEPTHS if high < 2**bits)
