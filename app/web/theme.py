"""What the page looks like, as plain values: fonts, colours, style sheet. Nothing comes from another host."""

from __future__ import annotations

from typing import Any

import numpy as np

from pruning import assets
from pruning.drawing import paint
from pruning.drawing.overlays import ramp
from pruning.drawing.palettes import DARK, LIGHT, variables

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "Helvetica", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")
COLOURS = {
    "body_background_fill": "#f4f6f9",
    "body_background_fill_dark": "#0e131b",
    "block_background_fill": "#ffffff",
    "block_background_fill_dark": "#161d28",
    "border_color_primary": "#dde2ea",
    "border_color_primary_dark": "#2c3646",
    "body_text_color": "#1b2430",
    "body_text_color_dark": "#eef2f7",
    "body_text_color_subdued": "#566173",
    "body_text_color_subdued_dark": "#a7b1c0",
    "input_shadow": "inset 0 0 0 1px #7f8998",
    "input_shadow_dark": "inset 0 0 0 1px #74819a",
    "checkbox_border_color": "#6b7587",
    "checkbox_border_color_dark": "#8390a8",
    "checkbox_border_color_selected_dark": "#a9c8ff",
    "checkbox_label_background_fill_dark": "#1d2633",
    "checkbox_label_background_fill_hover_dark": "#263142",
    "checkbox_label_background_fill_selected_dark": "#263142",
    "color_accent": "#1d5fd0",
    "slider_color": "#1d5fd0",
    "slider_color_dark": "#6ba2ff",
    "button_primary_background_fill": "#1d5fd0",
    "button_primary_background_fill_hover": "#174fb0",
    "button_primary_background_fill_dark": "#2b6be0",
    "button_primary_background_fill_hover_dark": "#3d7bf0",
}
EMPTY_CURVES = "Fidelity of the pruned model against tokens kept, measured on this image and question."


def stylesheet() -> str:
    """The style sheets of assets/styles/ with the charts' colours of both themes before them."""
    sheets = [assets.text(f"styles/{name}.css") for name in ("style", "workbench", "presenter", "tools")]
    return "\n".join([f":root {{{variables(LIGHT)}}}", f".dark {{{variables(DARK)}}}", *sheets])


def painting() -> dict[str, Any]:
    """The colours of `pruning.drawing`, red, green, blue each, and how bright and how much to be seen pruned patches
    are: what the page's painter, canvas-paint.js, paints looks the same.
    """
    return {
        "kept": paint.KEPT,
        "seam": paint.SEAM,
        "pruned": paint.PRUNED,
        "forcedIn": paint.FORCED_IN,
        "forcedOut": paint.FORCED_OUT,
        "groups": paint.GROUPS,
        "veil": paint.VEIL,
        "seen": paint.SEEN,
        "ramp": ramp(np.linspace(0, 1, 256)).tolist(),
    }
