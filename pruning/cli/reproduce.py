"""`race --reproduce`: a published row, run here as far as it says how."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from pruning.race.folder import Run
from pruning.race.ledger import BESIDE, MODEL, SETS, SOURCE, causes, lines, published
from pruning.race.settings import ALL


def settle(options: argparse.Namespace, unless: Mapping[str, Any]) -> None:
    """Put what the row states into the options. unless: what they hold where nobody chose; all else was chosen.

    Raises ValueError for an unknown row or data set, for methods or retentions beside those of the row, and for a data
    set whose score is no mean.
    """
    rows = {name: row for name, row in published().items() if name != ALL}
    if options.reproduce not in rows:
        raise ValueError(f"--reproduce {options.reproduce!r} is no published row: name one of {', '.join(rows)}")
    if options.set is None:
        raise ValueError(f"--reproduce needs --set: which of the row's data sets --data holds, of {', '.join(SETS)}")
    if not SETS[options.set].metric:
        raise ValueError(f"the score of {SETS[options.set].title} is no mean over questions: run it with lmms-eval, "
                         "see docs/ledger.md")  # fmt: skip
    for name in ("methods", "retention"):
        if list(getattr(options, name)) != list(unless[name]):
            raise ValueError(f"--{name} and --reproduce say the same thing: give one or the other")
    row = rows[options.reproduce]
    options.methods, options.retention = [row.method, *BESIDE], [row.retention]
    options.metric = options.metric or SETS[options.set].metric
    if options.model == unless["model"]:
        options.model = MODEL


def told(name: str, data: str, run: Run, rows: Sequence[Mapping[str, Any]]) -> str:
    """Published | here | difference, and the causes, in Markdown."""
    metrics = {result.metric for result in run.results() if not result.error}
    n = max(row["n"] for row in rows)
    out = [f"{SETS[data].title}, {name}: {SOURCE}", "", "| setting | published, % | here, % | difference |",
           "|---|---:|---:|---:|"]  # fmt: skip
    for line in lines(name, data, rows):
        stated = "–" if line.published is None else f"{line.published:.2f}"
        away = "–" if line.difference is None else f"{line.difference:+.2f}"
        out.append(f"| {line.title} | {stated} | {line.here:.2f} ({line.low:.1f} to {line.high:.1f}) | {away} |")
    out += ["", "| cause of differences | published | here | |", "|---|---|---|---|"]
    out += [
        f"| {each.what} | {each.published} | {each.here} | {each.verdict} |"
        for each in causes(data, run.manifest, metrics, n)
    ]
    return "\n".join(out)
