"""Overlays: what a selection keeps, painted onto the image with OpenCV.

Knows pixels and rectangles only: no model, no method, no web. Every image is `(H, W, 3)` uint8 RGB; every rectangle is
`x0, y0, x1, y1` in pixels of the image it is painted on (right and bottom edges exclusive). Rectangles may overlap
(tiles plus a thumbnail): a pixel counts as kept where any kept token covers it. What the painters share is in paint.py.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pruning.drawing.merged import merged
from pruning.drawing.paint import KEPT, PRUNED, SEAM, Floats, cover, frames, outline, seen, veiled, write
from pruning.drawing.paint import Image as Image

if TYPE_CHECKING:
    from pruning.tokens import Selection

STYLES: Mapping[str, str] = {
    "dimmed": "Pruned dimmed",
    "grid": "Grid outlines",
    "heat": "Importance heat",
    "order": "Pick order",
    "merged": "Merged groups",
}


def fit(image: Image, longest: int = 768) -> tuple[Image, float]:
    """Scale to a longest side of `longest` pixels, up or down; returns the image and the factor (new / old).

    An extreme strip keeps at least one pixel on its short side, so the factor is that of the longer side.
    """
    height, width = image.shape[:2]
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=way), dtype=np.uint8), factor


def roomy(image: Image, longest: int) -> int:
    """The longest side to `fit` an image to: `longest`, and more for a strip, which would become a thread.

    No image gets more pixels than one of 4 : 3 (or squarer) does at `longest`.
    """
    height, width = image.shape[:2]
    return max(longest, round(longest * (0.75 * max(height, width) / min(height, width)) ** 0.5))


def overlay(
    image: Image,
    rects: Floats,
    selection: Selection,
    style: str = "dimmed",
    scores: Floats | None = None,
    depths: Floats | None = None,
) -> Image:
    """Paint `selection` onto a copy of `image` (H, W, 3).

    `rects` (N, 4): where each visual token lies. `scores` (N,): what the heat map shows; defaults to
    `selection.scores`. "merged" shows which tokens went into which; a selection that merges nothing looks "dimmed".
    `depths` (N,): the share of the language model's layers that process each token, where tokens leave between layers
    (`Trace.depths`); "dimmed" shows the more of a pruned token the later it leaves. Raises ValueError for an unknown
    style, rectangles or depths that do not number N, and a heat map without scores.
    """
    if style not in STYLES:
        raise ValueError(f"unknown overlay style {style!r}: choose one of {', '.join(STYLES)}")
    if rects.shape != (selection.n, 4):
        raise ValueError(f"rectangles have shape {rects.shape}, the selection needs ({selection.n}, 4): one per token")
    if depths is not None and depths.shape != (selection.n,):
        raise ValueError(f"depths have shape {depths.shape}, the selection needs ({selection.n},): one per token")
    boxes = np.rint(np.asarray(rects, dtype=np.float64)).astype(np.int32)
    order = selection.order.cpu().numpy()
    if style == "heat":
        given = scores if scores is not None else _numpy(selection.scores)
        if given is None:
            raise ValueError("the heat map needs scores, and this selection has none: pass scores or another style")
        return _heat(image, boxes, order, np.asarray(given, dtype=np.float64))
    if style == "order":
        return _order(image, boxes, order)
    if style == "merged" and selection.merge_into is not None:
        return merged(image, boxes, order, selection.merge_into.cpu().numpy())
    return _grid(image, boxes, order) if style == "grid" else _dimmed(image, boxes, order, depths)


def depth_words(lives: Sequence[int], layers: int) -> str:
    """What "dimmed" shows of tokens that leave between layers. lives: (N,) how many of the layers process each."""
    stops = sorted({life for life in lives if 0 < life < max(lives)})
    parts = [f"after layer {life}, {seen(life / layers):.0%}".replace("%", " %") for life in stops]
    left = f" Of a patch that leaves {'; '.join(parts)} of the colours is seen." if parts else ""
    return f"Outlined patches live longest.{left} A patch that no layer processes is grey and dark."


def jpeg(image: Image, quality: int = 88) -> bytes:
    """Encode (H, W, 3) uint8 RGB without chroma subsampling: thin coloured outlines stay sharp."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _encoded(".jpg", image, options)


def kept_mask(shape: tuple[int, ...], rects: Floats, selection: Selection) -> NDArray[np.uint8]:
    """(H, W) uint8 of the first two of `shape`: 255 where a kept token covers the pixel, else 0."""
    boxes = np.rint(np.asarray(rects, dtype=np.float64)).astype(np.int32)
    return cover(shape[:2], boxes, selection.order.cpu().numpy()) * np.uint8(255)


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3) uint8 RGB or (H, W) uint8 grey without loss."""
    return _encoded(".png", image, [])


def data_url(image: Image, quality: int = 88) -> str:
    """The image as a `data:` URL: shown in a page without a file on the server's disk."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image, quality)).decode("ascii")


def heat(scores: Floats) -> Floats:
    """Scores (N,) on the heat map's scale, 0 for the lowest to 1 for the highest; equal ones lie in the middle."""
    low, high = float(scores.min()), float(scores.max())
    return (scores - low) / (high - low) if high > low else np.full(len(scores), 0.5)


def ramp(values: Floats) -> Image:
    """Values in [0, 1] (K,) as viridis RGB colours (K, 3): dark violet is low, yellow is high."""
    levels = np.rint(np.clip(values, 0.0, 1.0) * 255).astype(np.uint8).reshape(-1, 1)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[:, 0, ::-1], dtype=np.uint8)


def _dimmed(image: Image, boxes: NDArray[np.int32], order: NDArray[np.int64], depths: Floats | None) -> Image:
    kept = cover(image.shape[:2], boxes, order)
    out = np.where(kept[..., None] > 0, image, veiled(image) if depths is None else _deep(image, boxes, depths))
    outline(out, kept)
    return out


def _deep(image: Image, boxes: NDArray[np.int32], depths: Floats) -> Image:
    """What was pruned, the more to be seen the later it leaves; of tokens on one pixel, the one that leaves last is."""
    dark = veiled(image)
    out = dark.copy()
    for depth in np.unique(depths[depths > 0]).tolist():
        shown = np.asarray(cv2.addWeighted(image, seen(depth), dark, 1 - seen(depth), 0), dtype=np.uint8)
        cv2.copyTo(shown, cover(image.shape[:2], boxes, np.flatnonzero(depths == depth)), out)
    return out


def _grid(image: Image, boxes: NDArray[np.int32], order: NDArray[np.int64]) -> Image:
    out = image.copy()
    frames(out, boxes, SEAM, 1)
    veil = cv2.addWeighted(out, 0.55, np.full_like(out, 255), 0.45, 0)
    out = np.where(cover(image.shape[:2], boxes, order)[..., None] > 0, out, veil)
    frames(out, boxes, PRUNED, 1)
    frames(out, boxes[order], SEAM, 3)
    frames(out, boxes[order], KEPT, 1)
    return out


def _heat(image: Image, boxes: NDArray[np.int32], order: NDArray[np.int64], scores: Floats) -> Image:
    if scores.shape != (len(boxes),):
        raise ValueError(f"scores have shape {scores.shape}, the heat map needs ({len(boxes)},): one per token")
    paint = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    for (x0, y0, x1, y1), colour in zip(boxes.tolist(), ramp(heat(scores)).tolist(), strict=True):
        cv2.rectangle(paint, (x0, y0), (x1 - 1, y1 - 1), colour, cv2.FILLED)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    out = np.asarray(cv2.addWeighted(paint, 0.68, grey, 0.32, 0), dtype=np.uint8)
    frames(out, boxes[order], (255, 255, 255), 1)
    return out


def _order(image: Image, boxes: NDArray[np.int32], order: NDArray[np.int64]) -> Image:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    base = cv2.cvtColor(cv2.convertScaleAbs(grey, alpha=0.35, beta=20), cv2.COLOR_GRAY2RGB)
    paint = base.copy()
    early = 1 - np.arange(len(order)) / max(1, len(order) - 1)  # the first pick is the brightest
    colours = ramp(early)
    for (x0, y0, x1, y1), colour in zip(boxes[order].tolist(), colours.tolist(), strict=True):
        cv2.rectangle(paint, (x0, y0), (x1 - 1, y1 - 1), colour, cv2.FILLED)
    out = np.asarray(cv2.addWeighted(paint, 0.8, base, 0.2, 0), dtype=np.uint8)
    frames(out, boxes[order], SEAM, 1)
    dark_text = early > 0.45
    for rank, (x0, y0, x1, y1) in enumerate(boxes[order].tolist(), start=1):
        write(out, (x0, y0, x1, y1), str(rank), SEAM if dark_text[rank - 1] else (255, 255, 255))
    return out


def _encoded(kind: str, image: NDArray[np.uint8], options: list[int]) -> bytes:
    good, data = cv2.imencode(kind, image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not good:
        raise ValueError(f"an image of shape {image.shape} cannot be written as {kind}: give (H, W, 3) uint8")
    return data.tobytes()


def _numpy(tensor: Any) -> Floats | None:
    return None if tensor is None else tensor.detach().float().cpu().numpy()
