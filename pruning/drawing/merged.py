"""The overlay of a selection that merges: which patches went into which token."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pruning.drawing.paint import GROUPS, SEAM, Boxes, Image, cover, frames, outline, veiled, write

WHITE = (255, 255, 255)


def merged(image: Image, boxes: Boxes, order: NDArray[np.int64], into: NDArray[np.int64]) -> Image:
    """Kept tokens as they are, in a frame; what they absorbed in the frame's colour and with its number; the rest dark.

    order: (K,) kept tokens in pick order; a token's number is its place there, from 1, as in the overlay of the pick
    order. into: (N,) the kept token that absorbed each token, -1 = dropped. Tokens that absorbed nothing have a yellow
    outline and no number. Six colours take turns, so a colour recurs and the number tells; it stands where a stretch of
    patches of one group begins. Where rectangles overlap, the smaller ones lie on top, and kept ones on all.
    """
    size = np.bincount(into[into >= 0], minlength=len(into))
    grown = order[size[order] > 1]
    colours = np.zeros((len(into), 3), np.uint8)
    colours[grown] = np.resize(np.array(GROUPS, np.uint8), (len(grown), 3))
    number = np.zeros(len(into), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    number[size <= 1] = 0

    owner = np.full(image.shape[:2], -1, np.int32)  # (H, W) the kept token that absorbed what lies there
    paint = np.zeros_like(image)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for token in np.argsort(-area, kind="stable").tolist():
        x0, y0, x1, y1 = boxes[token].tolist()
        owner[y0:y1, x0:x1] = into[token]
        paint[y0:y1, x0:x1] = colours[into[token]]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    tinted = cv2.addWeighted(paint, 0.5, cv2.convertScaleAbs(grey, alpha=0.6, beta=40), 0.5, 0)
    out = veiled(image)
    cv2.copyTo(tinted, np.asarray(owner >= 0, np.uint8), out)
    border = np.zeros(image.shape[:2], np.bool_)
    border[:, 1:] = owner[:, 1:] != owner[:, :-1]
    border[1:] |= owner[1:] != owner[:-1]
    out[border] = SEAM
    cv2.copyTo(image, cover(image.shape[:2], boxes, order), out)
    outline(out, cover(image.shape[:2], boxes, order[size[order] <= 1]))
    frames(out, boxes[grown], SEAM, 3)
    for token in grown.tolist():
        frames(out, boxes[token : token + 1], tuple(colours[token].tolist()), 2)
    for token in np.flatnonzero((into >= 0) & (number[into] > 0) & (area > 0)).tolist():
        x0, y0, x1, y1 = boxes[token].tolist()
        home, x, y = into[token], (x0 + x1) // 2, (y0 + y1) // 2
        goes_on = (x0 > 0 and owner[y, x0 - 1] == home) or (y0 > 0 and owner[y0 - 1, x] == home)
        if home == token or not goes_on:
            write(out, (x0, y0, x1, y1), str(number[home]), WHITE, SEAM)
    return out
