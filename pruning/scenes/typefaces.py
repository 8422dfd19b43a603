"""Typefaces that pictures are written in: those inside matplotlib, and in training also those that Debian installs.

Held-out pictures use matplotlib's alone, so a benchmark does not depend on what is installed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from PIL import ImageFont

from pruning.scenes.render import HELD_OUT

BUNDLED: Final = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif",
    "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
    "STIXGeneralBolIta", "cmr10", "cmss10", "cmtt10", "cmb10", "cmti10",
)  # fmt: skip
_DEBIAN: Final = Path("/usr/share/fonts/truetype")
_ELSEWHERE: Final = ("liberation*/Liberation*-*.ttf", "dejavu/DejaVu*Condensed*.ttf", "freefont/Free*.ttf",
                     "noto/NotoS*-Regular.ttf", "noto/NotoS*-Bold.ttf", "ubuntu/Ubuntu-*.ttf")  # fmt: skip


@cache
def bundled() -> tuple[str, ...]:
    """Files of the typefaces inside matplotlib, always in the same order."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return tuple(str(folder / f"{name}.ttf") for name in BUNDLED)


@cache
def installed() -> tuple[str, ...]:
    """Files of further typefaces on this machine; none is fine."""
    return tuple(sorted(str(path) for pattern in _ELSEWHERE for path in _DEBIAN.glob(pattern)))


def faces(seed: int) -> tuple[str, ...]:
    """Files of the typefaces that the picture of `seed` may be written in."""
    return bundled() if seed >= HELD_OUT else bundled() + installed()


@cache
def font(file: str, size: int) -> ImageFont.FreeTypeFont:
    """`file` at `size` px. Basic layout: it is the same whether or not a shaping library is installed."""
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)
