"""The colours of charts: `LIGHT` and `DARK` hold plain colours for files; `PAGE` stands for CSS variables, which an SVG
is given instead, so that a page's theme decides.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

_MARKERS = "osD^vPXph"


@dataclass(frozen=True)
class Palette:
    """Colours by role. `series` is colour-blind safe (Okabe and Ito), 3:1 against the paper; `names` are the same hues
    for text, 4.5:1. `css` maps a placeholder to a CSS expression.
    """

    ink: str
    muted: str
    grid: str
    paper: str
    here: str
    series: tuple[str, ...]
    names: tuple[str, ...]
    css: tuple[tuple[str, str], ...] = ()

    def look(self, slot: int) -> tuple[str, str]:
        """Colour and marker; beyond nine methods the pairing shifts, so that no pair comes twice before 81."""
        return self.series[slot % 9], _MARKERS[(slot + slot // 9) % 9]

    def name(self, slot: int) -> str:
        """The colour in which the name of what has this slot is written."""
        return self.names[slot % 9]


_OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#a83f83", "#b07d00", "#3a94c8", "#7a6000", "#6b7280", "#8c564b")
_OKABE_ITO_DARK = ("#5ab4f0", "#ff8a4c", "#35c9a0", "#e08cc0", "#f0b429", "#9ad2f5", "#f0e442", "#a3abb8", "#d0a28f")
_NAMES = ("#0072b2", "#b75100", "#007e5c", "#a83f83", "#926800", "#2e76a0", "#7a6000", "#69707d", "#8c564b")
LIGHT = Palette("#1b2430", "#5b6675", "#e3e7ec", "#ffffff", "#c8102e", _OKABE_ITO, _NAMES)
DARK = Palette("#eef2f7", "#a7b1c0", "#2b3442", "#151b24", "#ff6b7d", _OKABE_ITO_DARK, _OKABE_ITO_DARK)
_SLOTS = tuple(f"#0102{i:02x}" for i in range(1, 24))  # no drawing uses these: they stand for a role
_ROLES = ("ink", "muted", "grid", "paper", "here", *(f"{kind}-{i}" for kind in ("series", "name") for i in range(9)))
_CSS = tuple((slot, f"var(--chart-{role})") for slot, role in zip(_SLOTS, _ROLES, strict=True))
PAGE = Palette(_SLOTS[0], _SLOTS[1], _SLOTS[2], _SLOTS[3], _SLOTS[4], _SLOTS[5:14], _SLOTS[14:], _CSS)


def variables(palette: Palette) -> str:
    """The CSS variables that `PAGE` stands for, with the colours of a palette: "--chart-ink:#1b2430;…"."""
    named = {f.name: getattr(palette, f.name) for f in fields(palette) if f.name not in ("series", "names", "css")}
    named |= {f"series-{i}": colour for i, colour in enumerate(palette.series)}
    named |= {f"name-{i}": colour for i, colour in enumerate(palette.names)}
    return "".join(f"--chart-{name}:{colour};" for name, colour in named.items())
