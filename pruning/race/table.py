"""What came of a race: a row per setting, with n, spread and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pruning.encoding import ENCODING
from pruning.race.folder import Result, Run
from pruning.race.metrics import says_yes, yes_no_counts
from pruning.race.settings import ALL
from pruning.race.statistics import holm, interval, paired


def table(run: Run) -> list[dict[str, Any]]:
    """A row per setting, in the manifest's order; none before the first result.

    Over the n questions that this setting and all tokens both answered: accuracy with its 95 % interval, `kept`, its
    share of the all-token accuracy there. p: Holm's over the table, of the paired comparisons with all tokens, random
    and lower resolution at the same retention, where they are in the race. difficult, simple: accuracy on questions
    that lower resolution at this retention gets wrong, and on the others. precision, recall, f1, yes: of the yes/no
    questions that this setting answered, as `yes_no_counts` has them; None where nothing is divided.
    """
    settings = run.manifest.settings
    results = [result for result in run.results() if not result.error]
    rows, tests = list[dict[str, Any]](), list[tuple[dict[str, Any], str, float]]()
    for name, told in settings.items():
        scored = _scores(results, name, ALL)
        if not scored:
            continue
        mine, whole, pictures = (list(column) for column in zip(*scored, strict=True))
        low, high = interval(mine, pictures)
        accuracy, reference = sum(mine) / len(mine), sum(whole) / len(whole)
        came = [r.cells[name].came_to for r in results if r.cells and name in r.cells and not r.cells[name].error]
        row = {"setting": name, "method": told["method"], "retention": told["retention"],
               "came_to": sum(came) / len(came), "n": len(mine), "accuracy": accuracy, "low": low, "high": high,
               "kept": accuracy / reference if reference else None}  # fmt: skip
        for what, rival in _rivals(settings, name, told).items():
            pairs = _scores(results, name, rival)
            if pairs:
                tests.append((row, f"p_{what}", paired(*(list(column) for column in zip(*pairs, strict=True)))))
                if what == "lower_resolution":
                    row["difficult"] = _mean([a for a, b, _ in pairs if b < 1])
                    row["simple"] = _mean([a for a, b, _ in pairs if b == 1])
        row |= _yes_no(results, name)
        rows.append(row)
    for (row, column, _), p in zip(tests, holm([p for _, _, p in tests]), strict=True):
        row[column] = p
    return rows


def _scores(results: list[Result], name: str, other: str) -> list[tuple[float, float, str]]:
    """(its score, the other's, picture) of each question that both answered."""
    pairs = [(r.cells.get(name), r.cells.get(other), r.digest) for r in results if r.cells]
    return [(a.score, b.score, digest) for a, b, digest in pairs if a and b and not a.error and not b.error]


def _yes_no(results: list[Result], name: str) -> dict[str, float | None]:
    """POPE's figures beside the accuracy; none where no question is answered by yes or no."""
    asked = [(r.cells[name], r.answers[0]) for r in results if r.metric == "yes_no" and r.cells and name in r.cells]
    pairs = [(says_yes(cell.said), says_yes(true)) for cell, true in asked if not cell.error]
    told = asdict(yes_no_counts(pairs)) if pairs else {}
    told.pop("accuracy", None)
    return {what: None if math.isnan(value) else value for what, value in told.items()}


def _rivals(settings: Mapping[str, Mapping[str, Any]], name: str, told: Mapping[str, Any]) -> dict[str, str]:
    """Column -> the setting that this one is compared with."""
    found = {"all_tokens": ALL}
    for other, its in settings.items():
        if its["retention"] == told["retention"] and its["method"] in ("random", *ENCODING):
            found[its["method"]] = other
    return {what: other for what, other in found.items() if other != name}


def _mean(scores: list[float]) -> float | None:
    return sum(scores) / len(scores) if scores else None
