"""What a run leaves for readers, in its folder: report.html, table.csv, table.md, table.tex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from pruning.drawing.palettes import DARK, LIGHT, PAGE, variables
from pruning.race.chart import NOTE, pareto
from pruning.race.early import replay
from pruning.race.folder import Run, replace_file
from pruning.race.reading import as_csv, latex, markdown, read, setting
from pruning.race.table import table
from pruning.templates import render

REPORT: Final = "report.html"
FAULTS: Final = 20  # that the report names one by one
TESTS: Final = (
    "p: paired by question (McNemar's exact test, the bootstrap for graded scores), corrected by Holm over every "
    "setting against all tokens and every two at one retention."
)


def write(run: Run) -> list[dict[str, Any]]:
    """Write all four anew; the table. Raises OSError as the disk does, ValueError as `Run` and `table` do."""
    rows = table(run)
    for name, text in files(run, rows).items():
        replace_file(run.path / name, text.encode())
    return rows


def files(run: Run, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name -> text of what `write` writes, of the run's table."""
    return {REPORT: html(run, rows), "table.csv": as_csv(rows), "table.md": markdown(rows), "table.tex": latex(rows)}


def stopped(run: Run) -> list[str]:
    """What was dropped before the end and when, a sentence each; nothing where everything is asked to the end."""
    manifest = run.manifest
    if (level := manifest.how.get("until_told_apart")) is None:
        return []
    found = replay(manifest.settings, level, run.results())
    found.at("")  # the last picture is over
    names = {name: setting({"setting": name, **told}) for name, told in manifest.settings.items()}
    said = [
        f"{names[each.name]} was dropped after {each.pictures:,} pictures, {each.rows:,} questions: "
        f"{names[each.better]} is better"
        for each in found.dropped
    ]
    return [*said, "Nothing is left to tell apart: the race is over"] if found.decided else said


def html(run: Run, rows: Sequence[Mapping[str, Any]]) -> str:
    """The report: one file that asks for nothing else, on paper of either colour, as narrow as a phone."""
    manifest, progress = run.manifest, run.progress
    errors = [(result.row, result.error) for result in run.results() if result.error]
    how = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in manifest.how.items())
    facts = [
        ("Data", f"{manifest.data} ({manifest.rows:,} rows)"),
        ("Model", manifest.title),
        ("Revision", manifest.revision),
        ("Asked", f"{progress.done:,} of {manifest.rows:,} rows; {len(errors):,} of them cannot be asked"),
        ("How", how),
        ("Made with", ", ".join(f"{name} {value}" for name, value in manifest.made_with.items())),
    ]
    chart, found = pareto(rows, PAGE) if rows else None, read(rows)
    return str(
        render(
            "race.report",
            title=f"{manifest.data}: {manifest.title}",
            light=variables(LIGHT),
            dark=variables(DARK),
            facts=facts,
            summary=chart.summary if chart else "",
            svg=chart.svg() if chart else "",
            note=NOTE,
            columns=found.columns,
            lines=found.lines,
            tests=TESTS,
            stopped=stopped(run),
            left_out=list(islice(errors, FAULTS)),
            more=max(0, len(errors) - FAULTS),
            made=f"IDPruner Lab {manifest.made_with.get('idpruner-lab', '')}",
        )
    )
