"""Draws a chart with matplotlib, lean: one figure, its axes placed by hand, no layout engine.

Deterministic: the same seed and size give the same picture on the same library versions.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from pruning.scenes.charts.canvas import Canvas, Look, look, paint_of, unit
from pruning.scenes.charts.numbers import Chart, compose
from pruning.scenes.drawn import Drawn, Mark, generator
from pruning.scenes.pen import age
from pruning.scenes.render import COLORS
from pruning.scenes.typefaces import font
from pruning.scenes.words import invent

_WORLD = 4


def draw(seed: int, height: int = 336, width: int = 336) -> Drawn:
    """Draw the chart of `seed`. Raises ValueError as `generator` does."""
    rng = generator(_WORLD, seed, height, width)
    style = look(rng, seed, height)
    chart = compose(rng, min(max(int((width - 60) / (3.3 * style.size)), 3), 7))
    sideways = chart.kind == "bar" and rng.random() < 0.3
    canvas = _canvas(rng, chart, style, height, width, sideways)
    if chart.kind == "pie":
        _pie(rng, canvas, chart)
    else:
        _axis(canvas, chart, sideways)
        {"bar": _bars, "line": _lines, "scatter": _points}[chart.kind](rng, canvas, chart, sideways)
    image, writings = canvas.pixels()
    return Drawn(seed, age(rng, image, 0.3), chart, writings, tuple(canvas.marks))


def _canvas(rng: np.random.Generator, chart: Chart, style: Look, height: int, width: int, sideways: bool) -> Canvas:
    title = invent(rng, 3, 8) if rng.random() < 0.4 else ""
    side = [chart.spell(tick) for tick in chart.ticks] if not sideways else list(chart.names)
    wide = max((font(style.face, style.size).getlength(text) for text in side), default=0.0)
    top = (2.0 if title else 0.6) * style.size + (1.2 * style.size if chart.labelled else 6)
    end = 3.4 * style.size if sideways and chart.labelled else 1.2 * style.size
    margins = (wide + 16, top, end, 1.4 * style.size + 12)
    if chart.kind == "pie":
        margins = (10, 2.0 * style.size if title else 8, 10, 10)
    canvas = Canvas(height, width, style, margins)
    if title:
        canvas.write(title.capitalize(), width / 2, style.size, "title")
    return canvas


def _axis(canvas: Canvas, chart: Chart, sideways: bool) -> None:
    axes, style = canvas.axes, canvas.look
    low, high = chart.ticks[0], chart.ticks[-1]
    spare = 0.06 * (high - low)
    numbers, names = (axes.xaxis, axes.yaxis) if sideways else (axes.yaxis, axes.xaxis)
    (axes.set_xlim if sideways else axes.set_ylim)(low - spare * (low < 0), high + spare)
    numbers.set_ticks(chart.ticks, [chart.spell(tick) for tick in chart.ticks])
    count = len(chart.names)
    if chart.names and chart.kind != "scatter":
        (axes.set_ylim if sideways else axes.set_xlim)(*((count - 0.4, -0.6) if sideways else (-0.6, count - 0.4)))
        names.set_ticks(range(count), [name.capitalize() for name in chart.names])
    else:
        axes.set_xlim(-0.9, 11.9)
        names.set_ticks([])
    for axis, role in ((numbers, "tick"), (names, "key")):
        for label in axis.get_ticklabels():
            label.set_fontproperties(canvas.font())
            label.set_color(unit(style.ink))
            canvas.note(label, role, label.get_text().lower() if role == "key" else "")
    axes.tick_params(color=unit(style.ink), length=4, pad=3)
    if style.grid:
        grid: Literal["both", "x", "y"] = "both" if style.grid == "both" else "x" if sideways else "y"
        axes.grid(True, axis=grid, color=unit(style.ink), alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_color(unit(style.ink))
        spine.set_visible(style.frame or name in ("left", "bottom"))


def _level(chart: Chart, value: float) -> float:
    return (value - chart.ticks[0]) / (chart.ticks[-1] - chart.ticks[0])


def _bars(rng: np.random.Generator, canvas: Canvas, chart: Chart, sideways: bool) -> None:
    axes, size = canvas.axes, canvas.look.size
    one = chart.series[0][0] if rng.random() < 0.7 else ""
    paints = [paint_of(rng, c) for c in chart.paints] or [paint_of(rng, one) if one else (0.45, 0.5, 0.55)] * 8
    thick = float(rng.uniform(0.5, 0.85))
    colors = paints[: len(chart.names)]
    edge = unit(canvas.look.ink) if rng.random() < 0.3 else None
    plot = axes.barh if sideways else axes.bar
    plot(range(len(chart.names)), chart.values, thick, color=colors, edgecolor=edge)
    for i, (name, value) in enumerate(zip(chart.names, chart.values, strict=True)):
        color = chart.paints[i] if chart.paints else one
        corners = [(0.0, i - thick / 2), (value, i + thick / 2)]
        (x0, y0), (x1, y1) = (canvas.place(*(c if sideways else c[::-1])) for c in corners)
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        canvas.marks.append(Mark("bar", box, color, name))
        x, y = canvas.place(*((value, i) if sideways else (i, value)))
        tip = (x - 12, y - 8, x + 6, y + 8) if sideways else (x - 10, y - 6, x + 10, y + 12)
        canvas.marks.append(Mark("tip", tip, color, name, chart.spell(value), _level(chart, value)))
        if chart.labelled:
            said = chart.spell(value)
            wide = font(canvas.look.face, size).getlength(said)
            at = (x + wide / 2 + 5, y) if sideways else (x, y - 0.65 * size)
            canvas.write(said, *at, "value", name)


def _lines(rng: np.random.Generator, canvas: Canvas, chart: Chart, _sideways: bool) -> None:
    style = canvas.look
    free = all(_level(chart, value) < 0.4 for _, values in chart.series for value in values[: len(values) // 2 + 1])
    for color, values in chart.series:
        canvas.axes.plot(range(len(values)), values, style.line, color=paint_of(rng, color), linewidth=style.width,
                         marker=style.marker, markersize=style.width + 5, clip_on=False)  # fmt: skip
        for i, (name, value) in enumerate(zip(chart.names, values, strict=True)):
            x, y = canvas.place(i, value)
            canvas.marks.append(
                Mark("point", (x - 8, y - 8, x + 8, y + 8), color, name, chart.spell(value), _level(chart, value))
            )
            if chart.labelled:
                canvas.write(chart.spell(value), x, y - 0.7 * style.size - 6, "value", name)
    if free and len(chart.series) > 1:
        shown = canvas.axes.legend([color for color, _ in chart.series], prop=canvas.font(), labelspacing=0.9,
                                   framealpha=0.5, handlelength=1.0, loc="upper left")  # fmt: skip
        for text in shown.get_texts():
            canvas.note(text, "legend", text.get_text())


def _points(rng: np.random.Generator, canvas: Canvas, chart: Chart, _sideways: bool) -> None:
    style = canvas.look
    if chart.names:
        columns = rng.permutation(11)[: len(chart.names)].tolist()
        spread = sorted(columns) if rng.random() < 0.5 else columns
        heights = tuple(float(value) for value in chart.values)
        groups = [(chart.series[0][0], spread, heights, chart.names)]
    else:
        groups = [(c, list(x), tuple(v / 100 for v in values), ("",) * len(values))
                  for (c, values), x in zip(chart.series, chart.across, strict=True)]  # fmt: skip
    for color, xs, ys, names in groups:
        canvas.axes.plot(xs, ys, style.marker, color=paint_of(rng, color), markersize=style.width + 6, clip_on=False)
        for px, value, name in zip(xs, ys, names, strict=True):
            x, y = canvas.place(px, value)
            said = chart.spell(int(value)) if name else ""
            canvas.marks.append(Mark("point", (x - 8, y - 8, x + 8, y + 8), color, name, said, _level(chart, value)))
            if name:
                right = x < 0.75 * canvas.figure.bbox.width
                wide = font(style.face, style.size).getlength(name) / 2 + 9
                canvas.write(name.capitalize(), x + (wide if right else -wide), y, "key", name)


def _pie(rng: np.random.Generator, canvas: Canvas, chart: Chart) -> None:
    """Names beside the slices or in a legend; shares inside."""
    axes, style = canvas.axes, canvas.look
    box = axes.get_window_extent()
    beside = rng.random() < 0.7
    widest = max(font(style.face, style.size).getlength(name.capitalize()) for name in chart.names) + 4
    legend = 0.0 if beside else widest + 2.2 * style.size
    above, aside = (1.4 * style.size, widest) if beside else (6.0, 6.0)
    reach = min(box.height / 2 - above, (box.width - legend) / 2 - aside)
    hole = float(rng.uniform(0.3, 0.45)) if rng.random() < 0.25 else 0.0
    wedges, *_ = axes.pie(chart.values, colors=[paint_of(rng, c) for c in chart.paints], radius=reach,
                          startangle=float(rng.uniform(0, 360)), center=(-legend / 2, 0),
                          wedgeprops={"edgecolor": unit(style.ground), "linewidth": 1.5,
                                      "width": reach * (1 - hole)})  # fmt: skip
    axes.set_axis_off()
    axes.set_xlim(-box.width / 2, box.width / 2)
    axes.set_ylim(-box.height / 2, box.height / 2)
    for wedge, name, value, color in zip(wedges, chart.names, chart.values, chart.paints, strict=True):
        angle, turn = math.radians((wedge.theta1 + wedge.theta2) / 2), math.radians(wedge.theta2 - wedge.theta1)
        far = reach * (0.66 if not hole else (1 + hole) / 2)
        x, y = canvas.place(far * math.cos(angle) - legend / 2, far * math.sin(angle))
        half = min(far * turn / 2, 0.3 * reach)
        canvas.marks.append(
            Mark("slice", (x - half, y - half, x + half, y + half), color, name, chart.spell(value), value / 100)
        )
        if chart.labelled:
            canvas.write(chart.spell(value), x, y, "value", name)
            dark = np.dot(COLORS[color], (0.3, 0.59, 0.11)) < 135
            canvas.texts[-1][0].set_color((1, 1, 1) if dark else (0, 0, 0))
        if beside:
            out = reach + 0.7 * style.size
            x, y = canvas.place((out + widest / 2 - 0.5 * style.size) * math.cos(angle), out * math.sin(angle))
            canvas.write(name.capitalize(), x, y, "key", name)
    if not beside:
        names = [name.capitalize() for name in chart.names]
        shown = axes.legend(wedges, names, prop=canvas.font(), loc="center right", handlelength=1.0, labelspacing=0.7,
                            borderaxespad=0, frameon=bool(rng.random() < 0.5))  # fmt: skip
        for text in shown.get_texts():
            text.set_color(unit(style.ink))
            canvas.note(text, "key", text.get_text().lower())
