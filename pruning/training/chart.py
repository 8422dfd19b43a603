"""The curves of a training run: its losses, and the held-out questions, over steps."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pruning.drawing.charts import Chart, frame
from pruning.drawing.labels import Labels, between
from pruning.drawing.palettes import LIGHT, Palette
from pruning.training.runs import Point

WIDE = 30  # the largest value over the smallest, from which on an axis is logarithmic

Line = tuple[str, Sequence[tuple[int, float]]]


def losses(points: Sequence[Point], steps: int, palette: Palette = LIGHT) -> Chart | None:
    """Every loss over the steps of its run; None without a point. steps: of the whole run."""
    names = list(dict.fromkeys(name for point in points for name in point.losses))
    lines = [(_words(name), [(p.step, p.losses[name]) for p in points if name in p.losses]) for name in names]
    values = [value for _, line in lines for _, value in line]
    if not values:
        return None
    wide = min(values) > 0 and max(values) > WIDE * min(values)
    figure, axes = frame(palette, "Steps", "Losses (logarithmic)" if wide else "Losses")
    if wide:
        axes.set_yscale("log")
        axes.set_ylim(min(values) / 1.4, max(values) * 1.4)  # now: names find their room by it
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        room = 0.08 * (max(values) - min(values)) or 0.05
        axes.set_ylim(min(0.0, min(values)), max(values) + room)
    _draw(axes, lines, max(steps, points[-1].step), palette)
    told = "; ".join(f"{name} {line[0][1]:.3g} at step {line[0][0]}, {line[-1][1]:.3g} at step {line[-1][0]}"
                     for name, line in lines)  # fmt: skip
    return Chart(figure, (), f"Losses over steps: {told}.", palette)


def held_out(points: Sequence[Point], steps: int, budget: float | None, palette: Palette = LIGHT) -> Chart | None:
    """Share of the held-out questions that are answered right, a line for every share of the tokens; None without one.
    budget: the run's own, None where nobody knows.
    """
    names = list(dict.fromkeys(name for point in points for name in point.held_out))
    lines = [(_kept(name, budget), [(p.step, 100 * p.held_out[name]) for p in points if name in p.held_out])
             for name in names]  # fmt: skip
    if not lines:
        return None
    figure, axes = frame(palette, "Steps", "Held-out questions answered right, %")
    values = [value for _, line in lines for _, value in line]
    axes.set_ylim(max(-2.0, min(values) - 8), min(101.0, max(values) + 8))
    _draw(axes, lines, max(steps, points[-1].step), palette)
    told = "; ".join(f"on {name} {line[-1][1]:.1f} % at step {line[-1][0]}, at best {best:.1f} % at step {at}"
                     for name, line in lines for at, best in [max(line, key=lambda spot: spot[1])])  # fmt: skip
    return Chart(figure, (), f"Held-out questions answered right: {told}.", palette)


def _draw(axes: Axes, lines: Sequence[Line], steps: int, palette: Palette) -> None:
    axes.set_xlim(0, steps * 1.03)
    names = Labels(axes, [spot for _, line in lines for spot in between(line)])
    for slot, (_, line) in enumerate(lines):
        colour, marker = palette.look(slot)
        axes.plot(*zip(*line, strict=True), color=colour, marker=marker, ms=4 if len(line) < 40 else 0, lw=1.5,
                  mec=palette.paper, mew=0.5, zorder=3)  # fmt: skip
    for slot, (name, line) in enumerate(lines):
        names.add(*line[0], name, palette.name(slot), side=-1)


def _kept(name: str, budget: float | None) -> str:
    """Of which share of the tokens a line is."""
    try:
        share = float(name) if name else budget
    except ValueError:
        return name
    return "the budget" if share is None else f"{100 * share:.3g} % of the tokens"


def _words(name: str) -> str:
    return name.replace("_", " ")
