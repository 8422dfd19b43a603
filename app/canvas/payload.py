"""What the live canvas is told: everything it needs to redraw any setting without a request. Where tokens leave between
layers, every setting is the server's to say: `exact_selection` tells it, and the pictures stay as they are.

A selection is K integers, so the page can hold all of them: the pick orders of a grid of λ values, once per image and
method. Arrays travel as base64 of their little-endian bytes; assets/scripts/canvas-model.js unpacks them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.canvas.shots import Shot, on_shots, shots
from app.session import Forced
from pruning.choosing import name_of, title_of
from pruning.drawing import overlays as draw
from pruning.encoding import EncodingMethod
from pruning.evaluation.lives import endurance
from pruning.evaluation.plane import LAMBDAS
from pruning.method import Method

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from pruning.choosing import Asked
    from pruning.models import Encoded
    from pruning.models.language.trace import Trace
    from pruning.tokens import Selection
    from pruning.video import Clip

DISPLAY = 1280  # longest side of a picture as the page gets it, pixels (strips have more); zooming in shows no more
MOST = 4  # pictures that are so large; more of them, the steps of clips, have as many pixels together


OFF = {
    "heat": "Nothing is chosen by importance: all tokens of the other encoding enter",
    "order": "Nothing is picked one after the other: all tokens of the other encoding enter",
    "merged": "No tokens are merged: the pictures are encoded anew",
}
"""Styles that show nothing of another encoding, and why."""


def nested(asked: Asked) -> bool:
    """Whether fewer tokens are the first picks of more of them; between layers, only the server knows what stays."""
    return isinstance(asked, Method) and asked.nested


def orders_of(asked: Asked) -> tuple[tuple[float, ...] | None, list[Asked]]:
    """The λ grid of a method and the method at each of its values; no grid for a method without λ.

    What is not nested is held by one order of all tokens, where λ says nothing any more.
    """
    if isinstance(asked, Method) and asked.lambda_ is not None and asked.nested:
        return LAMBDAS, [asked.at_lambda(value) for value in LAMBDAS]
    return None, [asked]


def payload(
    media: Sequence[Image | Clip | NDArray[np.uint8]],
    encoded: Encoded,
    asked: Asked,
    orders: Sequence[Tensor],
    scores: Tensor | None,
    identity: Hashable,
    full: int,
) -> dict[str, Any]:
    """All that the canvas must know of an image under a method.

    media: the images and clips that were encoded. orders: (N,) int64, one for each of `orders_of`; none where
    tokens leave between layers.
    scores: (N,) for the heat map; None where there is none. full: how many tokens the pictures have; encoded has fewer
    where it is another encoding. identity: whatever else the orders depend on; a new one makes the page forget forced
    patches.
    """
    taken = shots(media, encoded.tokens.grids, encoded.taken)
    longest = DISPLAY * min(1.0, (MOST / len(taken)) ** 0.5)
    shown = [_fitted(shot.pixels, longest) for shot in taken]
    grids = on_shots(encoded.tokens.grids, taken)
    rects = encoded.rects.copy()
    for grid in grids:
        height, width = shown[grid.image].shape[:2]
        given_width, given_height = encoded.sizes[taken[grid.image].image]
        rects[grid.start : grid.stop] *= np.array([width / given_width, height / given_height] * 2, np.float32)
    lambdas, _ = orders_of(asked)
    return {
        "key": key_of(asked, identity),
        "n": encoded.tokens.n,
        "images": [_told(shot, pixels) for shot, pixels in zip(taken, shown, strict=True)],
        "grids": [asdict(grid) | {"stop": grid.stop} for grid in grids],
        "rects": _packed(rects, "<f4"),
        "orders": _packed(np.stack([order.cpu().numpy() for order in orders]), "<u2") if orders else None,
        "lambdas": lambdas,
        "nested": nested(asked),
        "full": full,
        "placed": all(grid.placed for grid in grids),
        "anew": isinstance(asked, EncodingMethod),
        "off": OFF if isinstance(asked, EncodingMethod) else {},
        "staged": not isinstance(asked, Method | EncodingMethod),
        "weighted": isinstance(asked, Method) and asked.lambda_ is not None,
        "scores": None if scores is None else _packed(draw.heat(scores.double().cpu().numpy()), "<f4"),
        "method": {"name": name_of(asked), "title": title_of(asked)},
    }


def exact_selection(
    selection: Selection,
    nearest: Tensor,
    asked: Asked,
    retention: float,
    scope: str,
    identity: Hashable,
    trace: Trace | None = None,
    forced: Forced | None = None,
) -> dict[str, Any]:
    """One selection with what only the server knows of it: λ beside the grid, picks that are not nested, merges, and
    until which layer every token lives.

    nearest: (N,) similarity to the nearest kept token (`inspection.nearest_kept`). trace: of a plan. forced: what the
    visitor forced here before; the canvas takes it over where it has forgotten, and where it is news.
    """
    into = selection.merge_into
    return {
        "key": key_of(asked, identity),
        "lambda": asked.lambda_ if isinstance(asked, Method) else None,
        "retention": retention,
        "scope": scope,
        "order": _packed(selection.order.cpu().numpy(), "<u2"),
        "nearest": _packed(nearest.cpu().numpy(), "<f4"),
        "into": None if into is None else _packed(into.cpu().numpy(), "<i4"),
        "lives": None if trace is None else _packed(trace.lives.cpu().numpy(), "<u2"),  # N: layers that process each
        "forced": None if forced is None else {"in": list(forced.ins), "out": list(forced.outs), "news": forced.news},
        "alive": None if trace is None else list(trace.alive),  # tokens that each layer processes
        "endurance": None if trace is None else _packed(endurance(trace).cpu().numpy(), "<u2"),  # N: longest first
    }


def out_of_reach(why: str) -> dict[str, Any]:
    """In the place of a selection, why there is none: the canvas then shows the pictures alone."""
    return {"problem": why}


def key_of(asked: Asked, identity: Hashable) -> str:
    """Tells one set of orders from another; the same for all λ of a method that has a grid of them."""
    plain = asked.at_lambda(0.5) if isinstance(asked, Method) and asked.lambda_ is not None and asked.nested else asked
    return hashlib.sha256(repr((plain, identity)).encode()).hexdigest()[:16]


def _told(shot: Shot, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """A picture, or a step of a clip."""
    height, width = pixels.shape[:2]
    clip = None if shot.time is None else shot.image
    return {
        "src": draw.data_url(pixels),
        "width": width,
        "height": height,
        "clip": clip,
        "time": shot.time,
        "frames": shot.frames,
        "gone": shot.step is None and shot.joins is None,
        "joins": shot.joins,
    }


def _fitted(pixels: NDArray[np.uint8], longest: float) -> NDArray[np.uint8]:
    """As the page gets it: never larger than it is."""
    side = min(draw.roomy(pixels, round(longest)), max(pixels.shape[:2]))
    return draw.fit(pixels, side)[0]


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")
