"""The Pareto chart of a data set: accuracy against visual tokens kept, with intervals; who is as good as the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import NullFormatter, NullLocator

from pruning.drawing.charts import Chart, Mark, frame, place
from pruning.drawing.labels import Labels
from pruning.drawing.palettes import LIGHT, Palette
from pruning.race.settings import ALL, title
from pruning.race.statistics import LEVEL

BESIDE = 0.03  # how far points at one retention stand apart, as a share of it
APART = 1.5  # times that two ticks lie apart, at least
NOTE = (
    "Bars: 95 % intervals. Ringed: the best at its retention; filled: cannot be told apart from it; hollow: worse at "
    "5 %, corrected by Holm. Broken line: all tokens."
)


def pareto(rows: Sequence[Mapping[str, Any]], palette: Palette = LIGHT) -> Chart:
    """Accuracy (0 to 1) against the share of the visual tokens that is alive in the mean of the layers (logarithmic).

    rows: of `table.table`. A mark's method is its setting's name. Raises ValueError without the row of all tokens.
    """
    whole = next((row for row in rows if row["setting"] == ALL), None)
    if whole is None:
        raise ValueError("there is nothing to draw: the table has no row of all tokens yet")
    figure, axes = frame(palette, "Visual tokens kept (logarithmic)", "Accuracy, %")
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row is not whole:
            lines.setdefault(row["method"], []).append(row)
    lines = {method: sorted(mine, key=lambda row: row["came_to"]) for method, mine in lines.items()}
    shares = _ticks([row["came_to"] for row in rows])
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(row["came_to"] for row in rows) / 2, 1.08)
    axes.set_xticks(shares, [f"{100 * share:.3g} %" for share in shares])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    room = 0.06 * (high - low) or 0.05
    axes.set_ylim(100 * (low - room), 100 * (high + room))
    axes.axhspan(100 * whole["low"], 100 * whole["high"], color=palette.muted, alpha=0.12, lw=0, zorder=0)
    axes.axhline(100 * whole["accuracy"], color=palette.muted, lw=1.2, ls=(0, (4, 3)), zorder=1)
    at = {
        row["setting"]: row["came_to"] * (1 + BESIDE * (slot - (len(lines) - 1) / 2))
        for slot, mine in enumerate(lines.values())
        for row in mine
    }
    names = Labels(axes, [(at[row["setting"]], 100 * row["accuracy"]) for mine in lines.values() for row in mine])
    for slot, mine in enumerate(lines.values()):
        colour, marker = palette.look(slot)
        xs, ys = [at[row["setting"]] for row in mine], [100 * row["accuracy"] for row in mine]
        axes.plot(xs, ys, color=colour, lw=1.2, alpha=0.7, zorder=2)
        for row, x, y in zip(mine, xs, ys, strict=True):
            axes.plot((x, x), (100 * row["low"], 100 * row["high"]), color=colour, lw=1.6, alpha=0.55, zorder=2)
            inner = colour if as_good(row) else palette.paper
            axes.plot(x, y, marker, color=colour, mfc=inner, mec=colour, ms=6, mew=1.4, zorder=4)
            if row.get("best"):
                axes.plot(x, y, "o", ms=12, mfc="none", mec=palette.here, mew=1.6, zorder=5)
    for slot, (method, mine) in enumerate(lines.items()):  # at the small budgets, where the methods part most
        first = mine[0]
        where = at[first["setting"]], 100 * first["accuracy"]
        names.add(*where, title(method), palette.name(slot), reach=6 if first.get("best") else 0, side=-1)
    marks = tuple(
        Mark(*place(axes, at[row["setting"]], 100 * row["accuracy"]), row["setting"], None, row["retention"] or 1.0,
             said(row))
        for mine in lines.values()
        for row in mine
    )  # fmt: skip
    best = "; ".join(said(row) for row in rows if row.get("best"))
    summary = f"Accuracy against visual tokens kept. {said(whole)}." + (
        f" Best at each retention: {best}." if best else ""
    )
    return Chart(figure, marks, summary, palette)


def _ticks(shares: Sequence[float]) -> list[float]:
    """The largest, and of the others those that leave room for their words."""
    found: list[float] = []
    for share in sorted({round(share, 3) for share in shares}, reverse=True):
        if not found or share * APART <= found[-1]:
            found.append(share)
    return found


def as_good(row: Mapping[str, Any]) -> bool:
    """Whether it cannot be told apart from the best at its retention; nor can what is compared with none."""
    return bool(row.get("p_best", 1.0) >= 1 - LEVEL)


def said(row: Mapping[str, Any]) -> str:
    """A setting and what it came to: "IDPruner, 25 %: accuracy 71.2 % (64.0 to 78.1)"."""
    kept = "" if row["setting"] == ALL else f", {100 * row['came_to']:.3g} %"
    spread = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
    return f"{title(row['method'])}{kept}: accuracy {100 * row['accuracy']:.1f} % ({spread})"
