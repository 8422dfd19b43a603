"""Stacked bars: where the time of several settings goes, group by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from pruning.drawing.charts import Chart
from pruning.drawing.palettes import LIGHT, Palette

LONGEST = 32  # characters of a bar's name


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
    figure = Figure(figsize=(6.4, 0.6 + sum(0.55 + 0.32 * sum(b.group == g for b in given) for g in groups)), dpi=100)
    figure.set_layout_engine("constrained")
    rows = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, group in zip(rows, groups, strict=True):
        mine = [bar for bar in given if bar.group == group]
        for place, bar in enumerate(mine):
            left = 0.0
            for slot, (phase, value) in enumerate(bar.phases.items()):
                label = phase if place == 0 else None
                axes.barh(place, value, left=left, height=0.7, color=palette.series[slot], label=label)
                left += value
        axes.set_yticks(range(len(mine)), [_short(bar.title) for bar in mine])
        axes.invert_yaxis()
        axes.set_title(group, loc="left", fontsize=9, color=palette.ink)
        axes.tick_params(labelsize=8, colors=palette.ink)
        axes.set_facecolor("none")
        for side in axes.spines.values():
            side.set_color(palette.ink)
    rows[-1].set_xlabel("milliseconds of a batch", fontsize=8, color=palette.ink)
    figure.legend(
        *rows[0].get_legend_handles_labels(),
        loc="outside upper right",
        ncols=4,
        fontsize=8,
        frameon=False,
        labelcolor=palette.ink,
    )
    totals = "; ".join(f"{b.group}, {b.title}: {sum(b.phases.values()):.0f} ms" for b in given)
    return Chart(figure, (), f"Where the time goes. {totals}", palette)


def _short(title: str) -> str:
    """On one line that leaves room for the bars: a plan can be long. The summary has all of it."""
    line = " ".join(title.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
