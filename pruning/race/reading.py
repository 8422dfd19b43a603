"""A race's table as people read it: columns with what they mean, cells as words; as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pruning.race.settings import ALL, title

NONE: Final = "–"
LEAST_P: Final = 0.001
LATEX: Final = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}
MARKDOWN: Final = {sign: f"\\{sign}" for sign in "\\`*_{}[]<>#|~"}


@dataclass(frozen=True)
class Shown:
    """One cell: what it is sorted by, None for nothing; its words; smaller words beside them."""

    value: float | None
    words: str
    small: str = ""


@dataclass(frozen=True)
class Column:
    """name: its head; why: what it means. of(row): its cell. `key`: rows that have it bring the column about."""

    name: str
    why: str
    key: str
    of: Callable[[Mapping[str, Any]], Shown]


@dataclass(frozen=True)
class Reading:
    """columns: those that some row has. lines: a row's setting, whether it is the best at its retention, its cells."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[str, bool, tuple[Shown, ...]], ...]


def read(rows: Sequence[Mapping[str, Any]]) -> Reading:
    """The table as words. rows: of `table.table`."""
    columns = tuple(column for column in COLUMNS if any(row.get(column.key) is not None for row in rows))
    lines = [(setting(row), bool(row.get("best")), tuple(column.of(row) for column in columns)) for row in rows]
    return Reading(columns, tuple(lines))


def setting(row: Mapping[str, Any]) -> str:
    """A setting's name in words: "IDPruner, 25 %"."""
    if row["setting"] == ALL or row["retention"] is None:
        return title(row["method"])
    return f"{title(row['method'])}, {100 * row['retention']:.3g} %"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every number, as it is; a column that a row lacks is empty in it."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown; the best at each retention bold."""
    found = read(rows)
    heads = ["Setting", *(_escaped(column.name, MARKDOWN) for column in found.columns)]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * len(found.columns)}"]
    for name, best, cells in found.lines:
        words = [_escaped(" ".join(filter(None, (cell.words, cell.small))), MARKDOWN) for cell in cells]
        name = _escaped(name, MARKDOWN)
        lines.append(f"| {' | '.join([f'**{name}**' if best else name, *words])} |")
    return "\n".join([*lines, ""])


def latex(rows: Sequence[Mapping[str, Any]]) -> str:
    r"""The table for the package booktabs; the best at each retention by \textbf."""
    found = read(rows)
    heads = ["Setting", *(_escaped(column.name, LATEX) for column in found.columns)]
    lines = [
        f"\\begin{{tabular}}{{l{'r' * len(found.columns)}}}",
        "\\toprule",
        f"{' & '.join(heads)} \\\\",
        "\\midrule",
    ]
    for name, best, cells in found.lines:
        words = [_escaped(" ".join(filter(None, (cell.words, cell.small))), LATEX) for cell in cells]
        name = _escaped(name, LATEX)
        lines.append(" & ".join([f"\\textbf{{{name}}}" if best else name, *words]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _escaped(text: str, signs: Mapping[str, str]) -> str:
    """On one line, every sign that the language takes for its own as text."""
    return "".join(signs.get(sign, sign) for sign in " ".join(text.split()))


def _percent(key: str) -> Callable[[Mapping[str, Any]], Shown]:
    def of(row: Mapping[str, Any]) -> Shown:
        value = row.get(key)
        return Shown(None, NONE) if value is None else Shown(value, f"{100 * value:.1f}")

    return of


def _p(key: str) -> Callable[[Mapping[str, Any]], Shown]:
    def of(row: Mapping[str, Any]) -> Shown:
        value = row.get(key)
        if value is None:
            return Shown(None, NONE)
        return Shown(value, f"< {LEAST_P}" if value < LEAST_P else f"{value:.3f}")

    return of


def _accuracy(row: Mapping[str, Any]) -> Shown:
    spread = f"({100 * row['low']:.1f} to {100 * row['high']:.1f})"
    return Shown(row["accuracy"], f"{100 * row['accuracy']:.1f}", spread)


def _kept(row: Mapping[str, Any]) -> Shown:
    return Shown(row["came_to"], f"{100 * row['came_to']:.3g}")


def _groups(row: Mapping[str, Any]) -> Shown:
    groups = row.get("groups")
    return Shown(float(ord(groups[0])), groups) if groups else Shown(None, NONE)


COLUMNS: Final = (
    Column("Tokens, %", "Visual tokens alive, in the mean of the layers, of all", "came_to", _kept),
    Column("n", "Questions that this setting and all tokens both answered", "n",
           lambda row: Shown(row["n"], f"{row['n']:,}")),
    Column("Accuracy, %", "Mean score, with its 95 % interval by the bootstrap over pictures", "accuracy", _accuracy),
    Column("Of all tokens, %", "Accuracy as a share of the all-token accuracy", "kept", _percent("kept")),
    Column("Groups", "Settings at one retention that share a letter cannot be told apart; a has the best", "groups",
           _groups),
    Column("p, all tokens", "Of no difference to all tokens, paired by question, corrected by Holm", "p_all_tokens",
           _p("p_all_tokens")),
    Column("p, best", "Of no difference to the best at the same retention", "p_best", _p("p_best")),
    Column("p, random", "Of no difference to random tokens at the same retention", "p_random", _p("p_random")),
    Column("p, lower resolution", "Of no difference to lower resolution at the same retention", "p_lower_resolution",
           _p("p_lower_resolution")),
    Column("p, fewer frames", "Of no difference to fewer frames at the same retention", "p_fewer_frames",
           _p("p_fewer_frames")),
    Column("Difficult, %", "Accuracy on questions that lower resolution, of clips fewer frames, gets wrong",
           "difficult", _percent("difficult")),
    Column("Simple, %", "Accuracy on questions that lower resolution, of clips fewer frames, gets right", "simple",
           _percent("simple")),
    Column("Precision, %", "Of the yes/no questions: true among those that it says yes to", "precision",
           _percent("precision")),
    Column("Recall, %", "Of the yes/no questions: said among those where yes is true", "recall", _percent("recall")),
    Column("F1, %", "Harmonic mean of precision and recall", "f1", _percent("f1")),
    Column("Yes, %", "How often it says yes", "yes", _percent("yes")),
)  # fmt: skip
