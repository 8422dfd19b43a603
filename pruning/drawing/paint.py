"""What the overlays' painters share: colours, covered pixels, frames and numbers.

Colours are Okabe and Ito's, which stay apart in the common forms of colour blindness.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Floats = NDArray[np.floating[Any]]
# (N, 4) x0, y0, x1, y1 in pixels, right and bottom edges exclusive; empty for a token that lies in a model's padding
Boxes = NDArray[np.int32]
Colour = tuple[int, int, int]

KEPT: Colour = (240, 228, 66)  # yellow: readable on dark and, with its dark seam, on light
SEAM: Colour = (20, 24, 32)
PRUNED: Colour = (150, 156, 168)
GROUPS: tuple[Colour, ...] = (  # orange, sky blue, bluish green, reddish purple, blue, vermilion
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (0, 114, 178),
    (213, 94, 0),
)
FORCED_IN, FORCED_OUT = GROUPS[1], GROUPS[5]
VEIL = 0.38  # brightness of what the model does not get
SEEN = 0.2, 0.7  # of the colours of a patch that leaves between layers: before the first layer, after the last one
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST = 0.3  # a scale below it cannot be read


def cover(shape: tuple[int, ...], boxes: Boxes, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
    """1 where a chosen token covers the pixel, else 0; (H, W)."""
    mask = np.zeros(shape, dtype=np.uint8)
    for x0, y0, x1, y1 in boxes[chosen].tolist():
        mask[y0:y1, x0:x1] = 1
    return mask


def frames(out: Image, boxes: Boxes, colour: Colour, width: int) -> None:
    """Paint an outline of `width` pixels on the border of every box that is not empty."""
    for x0, y0, x1, y1 in boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)].tolist():
        cv2.rectangle(out, (x0, y0), (x1 - 1, y1 - 1), colour, width)


def outline(out: Image, mask: NDArray[np.uint8]) -> None:
    """Paint a thin line around everything that the mask (H, W) covers, and around its holes."""
    edges, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(out, edges, -1, KEPT, 1)


def veiled(image: Image) -> Image:
    """The image grey and dark: what the model does not get."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(cv2.convertScaleAbs(grey, alpha=VEIL), cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def seen(depth: float) -> float:
    """How much is seen of the colours of a patch, in [0, 1], that this share of the layers processes, in (0, 1]."""
    first, last = SEEN
    return first + (last - first) * depth


def write(out: Image, box: tuple[int, int, int, int], text: str, colour: Colour, halo: Colour | None = None) -> None:
    """Write into the middle of a box, as large as it takes; not at all where nobody could read it."""
    x0, y0, x1, y1 = box
    scale = min((y1 - y0) / 44, (x1 - x0) / (20 * len(text) + 6))
    if scale < _SMALLEST:
        return
    (w, h), _ = cv2.getTextSize(text, _FONT, scale, 1)
    at = ((x0 + x1 - w) // 2, (y0 + y1 + h) // 2)
    if halo is not None:
        cv2.putText(out, text, at, _FONT, scale, halo, 3, cv2.LINE_AA)
    cv2.putText(out, text, at, _FONT, scale, colour, 1, cv2.LINE_AA)
