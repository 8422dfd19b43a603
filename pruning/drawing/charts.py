"""Charts of the trade-off: the I-H plane, and fidelity against tokens kept.

Pure matplotlib `Figure` objects: no pyplot, so no state is shared between threads. A `Chart` carries, beside its
figure, where each clickable point lies on it, so that a page can turn a click back into a setting.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter, NullLocator

from pruning.drawing.labels import SMALL, Labels, between
from pruning.drawing.palettes import LIGHT, Palette

SIZE = (4.8, 3.5)  # inches at 100 dpi: 480 x 350 units, in which the font sizes below are pixels x 0.72
_TEXT = 9.2
_SVG_SETTINGS = threading.Lock()  # matplotlib reads svg.* from its global settings while it writes


@dataclass(frozen=True)
class Mark:
    """A clickable point: its place as a fraction of the figure from the left and from the top, and what it stands
    for.
    """

    left: float
    top: float
    method: str
    mmr_lambda: float | None
    retention: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A drawn figure, its clickable points, and one sentence that says in words what it shows."""

    figure: Figure
    marks: tuple[Mark, ...]
    summary: str
    palette: Palette

    def svg(self) -> str:
        """The `<svg>` element alone, ready to be put into a page; text stays text."""
        out = io.StringIO()
        for words in self.figure.findobj(Text):
            words.set_parse_math(False)  # a name with a "$" in it is no formula
        with _SVG_SETTINGS, matplotlib.rc_context({"svg.fonttype": "none", "svg.id": "chart"}):
            self.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        text = out.getvalue()
        for slot, expression in self.palette.css:
            text = text.replace(slot, expression)
        text = text[text.index("<svg") :]
        # Inline in a page, the file's own <style> would reach every other drawing there, and its metadata is dead
        # weight.
        for start, stop in (("<metadata>", "</metadata>"), ("<style", "</style>")):
            text = text[: text.index(start)] + text[text.index(stop) + len(stop) :]
        return text.replace("<svg ", '<svg stroke-linejoin="round" ', 1)

    def png(self, dpi: int = 200) -> bytes:
        """The figure as a PNG file on the palette's paper colour."""
        out = io.BytesIO()
        self.figure.savefig(out, format="png", dpi=dpi, facecolor=self.palette.paper)
        return out.getvalue()


class OnPlane(Protocol):
    """What `pareto.PlanePoint` offers and the plane needs."""

    @property
    def method(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def mmr_lambda(self) -> float | None: ...
    @property
    def budget(self) -> int: ...
    @property
    def retention(self) -> float: ...
    @property
    def importance_retention(self) -> float: ...
    @property
    def hopkins(self) -> float: ...


@dataclass(frozen=True)
class Series:
    """Fidelity of one setting: (tokens kept, retention, fidelity), in any order; `slot` picks colour and marker."""

    method: str
    title: str
    mmr_lambda: float | None
    slot: int
    points: tuple[tuple[int, float, float], ...]


def plane(
    points: Sequence[OnPlane],
    front: Sequence[OnPlane],
    here: OnPlane | None,
    slots: dict[str, int],
    palette: Palette = LIGHT,
) -> Chart:
    """The paper's plane (2602.13315, figure 3) at one budget: importance retention I(S) up, Hopkins statistic H(S)
    across; best is the top left corner.

    `points`: λ sweeps (those with `mmr_lambda`; the first method's ends are labelled) and single reference
    strategies. `front`: the non-dominated ones among them, joined by a line. `here`: the present setting. `slots`:
    method → colour and marker.
    """
    figure, axes = frame(
        palette, "Hopkins statistic H(S) · ← more diverse", "Importance retention I(S) · more important →"
    )
    sweeps: dict[str, list[OnPlane]] = {}
    for p in sorted((p for p in points if p.mmr_lambda is not None), key=lambda p: p.mmr_lambda or 0.0):
        sweeps.setdefault(p.method, []).append(p)
    lines = sorted(sweeps.values(), key=lambda line: slots.get(line[0].method, 0))
    others = [p for p in points if p.mmr_lambda is None]
    border = sorted(front, key=lambda p: p.importance_retention)
    axes.plot(*_columns(border), color=palette.muted, lw=5, alpha=0.28, solid_capstyle="round", zorder=1)
    for line in lines:
        colour, marker = palette.look(slots.get(line[0].method, 0))
        axes.plot(*_columns(line), color=colour, lw=1.4, marker=marker, ms=4.5, mec=palette.paper, mew=0.6, zorder=3)
    for p in others:
        colour, marker = palette.look(slots.get(p.method, 7))
        axes.plot(*_at(p), color=colour, marker=marker, ms=7, mec=palette.paper, zorder=4)
    _margins(axes, points)
    spots = [spot for line in lines for spot in between([_at(p) for p in line])]
    names = Labels(axes, [*spots, *(_at(p) for p in others)])
    if here is not None:
        axes.plot(*_at(here), "o", ms=13, mfc="none", mec=palette.here, mew=2, zorder=6)
        names.add(*_at(here), "you are here", palette.here, reach=8)
    for line in lines:
        colour = palette.name(slots.get(line[0].method, 0))
        for p in (line[0], line[-1]) if line is lines[0] and len(line) > 1 else ():
            names.add(*_at(p), f"λ {p.mmr_lambda:g}", colour)
        p = line[len(line) // 3]
        names.add(*_at(p), p.title, colour)
    for p in others:
        names.add(*_at(p), p.title, palette.name(slots.get(p.method, 7)))
    if border:
        middle = border[len(border) // 2]
        names.add(*_at(middle), "front", palette.muted)
    marks = tuple(
        Mark(*place(axes, *_at(p)), p.method, p.mmr_lambda, p.retention, _plane_label(p))
        for p in (*(p for line in lines for p in line), *others)
    )
    best = f"{len(border)} of {len(points)} settings are not dominated." if points else "No points yet."
    return Chart(figure, marks, f"Importance retention against Hopkins statistic at one budget. {best}", palette)


def fidelity(series: Sequence[Series], n: int, here: int | None, palette: Palette = LIGHT) -> Chart:
    """Fidelity (0 to 1) against tokens kept (logarithmic), one line per method; partial data draw partial lines.

    `n`: all visual tokens. `here`: tokens kept at the present setting.
    """
    figure, axes = frame(palette, f"Tokens kept, of {n} (logarithmic)", "Fidelity to the all-token answer, 0–1")
    ticks = sorted({k for s in series for k, _, _ in s.points} | {n})
    axes.set_xscale("log", base=2)
    least = min([*ticks, max(1, n // 24)])
    axes.set_xlim(least * (least / n) ** 0.34, n * 1.08)  # room on the left for the names
    axes.set_ylim(-0.03, 1.05)
    shown = ticks[:: max(1, len(ticks) // 6)] if len(ticks) > 2 else [n]
    axes.set_xticks(shown, [str(t) for t in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if here is not None:
        axes.axvline(here, color=palette.here, lw=1.4, ls=(0, (4, 3)), zorder=1)
        side = "right" if here > n / 2 else "center"
        axes.annotate("you are here", (here, 1), (0, 1), ("data", "axes fraction"), "offset points", color=palette.here,
                      fontsize=SMALL, fontweight="bold", va="bottom", ha=side)  # fmt: skip
    lines = [(s, sorted(s.points)) for s in series if s.points]
    spots = [spot for _, line in lines for spot in between([(k, f) for k, _, f in line])]
    names = Labels(axes, spots)
    for s, line in lines:
        colour, marker = palette.look(s.slot)
        where = ([k for k, _, _ in line], [f for _, _, f in line])
        axes.plot(*where, color=colour, marker=marker, ms=4.5, lw=1.5, mec=palette.paper, mew=0.5, zorder=3)
    for s, line in lines:  # labels go where the methods part most: at the small budgets
        names.add(line[0][0], line[0][2], s.title, palette.name(s.slot), side=-1)
    marks = tuple(
        Mark(*place(axes, k, f), s.method, s.mmr_lambda, r, f"{s.title}: {k} of {n} tokens, fidelity {f:.3f}")
        for s, line in lines
        for k, r, f in line
    )
    done = sum(len(line) for _, line in lines)
    return Chart(figure, marks, f"Fidelity against tokens kept: {len(lines)} methods, {done} points.", palette)


def frame(palette: Palette, x: str, y: str) -> tuple[Figure, Axes]:
    """An empty figure with these words at its axes."""
    figure = Figure(figsize=SIZE, dpi=100)
    axes = figure.add_axes((0.125, 0.14, 0.855, 0.83))
    axes.set_facecolor("none")
    axes.grid(color=palette.grid, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=palette.muted, labelsize=SMALL, length=0, pad=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.grid)
    axes.set_xlabel(x, color=palette.ink, fontsize=_TEXT)
    axes.set_ylabel(y, color=palette.ink, fontsize=_TEXT)
    return figure, axes


def _at(p: OnPlane) -> tuple[float, float]:
    return p.hopkins, p.importance_retention


def _columns(points: Sequence[OnPlane]) -> tuple[list[float], list[float]]:
    return [p.hopkins for p in points], [p.importance_retention for p in points]


def _margins(axes: Axes, points: Sequence[OnPlane]) -> None:
    xs, ys = _columns(points) if points else ([0.0, 1.0], [0.0, 1.0])
    for low, high, limits in ((min(xs), max(xs), axes.set_xlim), (min(ys), max(ys), axes.set_ylim)):
        room = 0.14 * (high - low) or 0.05
        limits(low - room, high + room)


def place(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """Where a value lies on the figure, as fractions from its left and its top."""
    across, up = axes.transData.transform((x, y))
    width, height = axes.get_figure(root=True).bbox.size  # type: ignore[union-attr]
    return float(across / width), float(1 - up / height)


def _plane_label(p: OnPlane) -> str:
    name = p.title if p.mmr_lambda is None else f"{p.title}, λ {p.mmr_lambda:g}"
    return f"{name}: importance retention {p.importance_retention:.3f}, Hopkins {p.hopkins:.3f}"
