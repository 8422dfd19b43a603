"""Stacked bars: where the time of several settings goes, group by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from pruning.drawing.charts import Chart
from pruning.drawing.palettes import LIGHT, Palette

LONGEST = 54  # characters of a bar's name
WIDTH = 4.8  # inches at 100 dpi, as of the other charts: a phone shows it at about 0.7 of that
TEXT = 9.2


@dataclass(frozen=True)
class Bar:
    """One bar of a group: milliseconds by phase, the lowest first."""

    group: str
    title: str
    phases: Mapping[str, float]


def bars(given: Sequence[Bar], palette: Palette = LIGHT) -> Chart:
    """A horizontal bar for each setting, those of a group together; every group on a scale of its own.

    Raises ValueError for no bars.
    """
    if not given:
        raise ValueError("there is nothing to draw: measure a setting first")
    groups = list(dict.fromkeys(bar.group for bar in given))
    heights = [0.45 + 0.42 * sum(bar.group == group for bar in given) for group in groups]
    figure = Figure(figsize=(WIDTH, 0.6 + sum(heights)), dpi=100)
    figure.set_layout_engine("constrained")
    rows = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, group in zip(rows, groups, strict=True):
        mine = [bar for bar in given if bar.group == group]
        for place, bar in enumerate(mine):
            left = 0.0
            for slot, (phase, value) in enumerate(bar.phases.items()):
                label = phase if place == 0 else None
                axes.barh(place, value, left=left, height=0.4, color=palette.series[slot], label=label)
                left += value
            # Above its bar, not beside it: a phone has no room for both.
            above = {"xytext": (3, 0), "textcoords": "offset points", "va": "bottom"}
            axes.annotate(_short(bar.title), (0, place - 0.26), **above, fontsize=TEXT, color=palette.ink)
        axes.set_ylim(len(mine) - 0.7, -0.75)
        axes.set_yticks([])
        axes.set_title(group, loc="left", fontsize=TEXT, fontweight="bold", color=palette.ink)
        axes.tick_params(labelsize=TEXT, colors=palette.ink)
        axes.set_facecolor("none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(palette.ink)
    rows[-1].set_xlabel("milliseconds of a batch", fontsize=TEXT, color=palette.ink)
    figure.legend(
        *rows[0].get_legend_handles_labels(),
        loc="outside upper left",
        ncols=4,
        fontsize=TEXT,
        handlelength=1.2,
        columnspacing=1.2,
        frameon=False,
        labelcolor=palette.ink,
    )
    totals = "; ".join(f"{b.group}, {b.title}: {sum(b.phases.values()):.0f} ms" for b in given)
    return Chart(figure, (), f"Where the time goes. {totals}", palette)


def _short(title: str) -> str:
    """On one line that leaves room for the bars: a plan can be long. The summary has all of it."""
    line = " ".join(title.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
