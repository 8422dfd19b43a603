"""What came of a race: a row per setting, with n, spread and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any, Final

from pruning.race.folder import Result, Run
from pruning.race.metrics import says_yes, yes_no_counts
from pruning.race.settings import ALL
from pruning.race.statistics import LEVEL, holm, interval, letters, paired

ANEW: Final = ("lower_resolution", "fewer_frames")  # the first that is in the race tells what is difficult
RIVALS: Final = ("random", *ANEW)


def table(run: Run) -> list[dict[str, Any]]:
    """A row per setting, in the manifest's order; none before the first result.

    Over the n questions that this setting and all tokens both answered: accuracy with its 95 % interval, `kept`, its
    share of the all-token accuracy there. p: of the paired comparisons with all tokens, and with random, lower
    resolution, fewer frames and the best at the same retention, where they are in the race; Holm's over every setting
    against all tokens and every two at one retention, so that choosing the best from the same questions is paid for.
    best: whether no other at its retention has a higher accuracy. groups: settings at one retention that share a letter
    cannot be told apart at 5 %; "a" has the best. difficult, simple: accuracy on questions that lower resolution, where
    that is not in the race fewer frames, at this retention gets wrong, and on the others. precision, recall, f1, yes:
    of the yes/no questions that this setting answered, as `yes_no_counts` has them; None where nothing is divided.
    """
    settings = run.manifest.settings
    results = [result for result in run.results() if not result.error]
    rows = {name: row for name in settings if (row := _row(results, name, settings[name]))}
    names = [name for name in rows if name != ALL]
    levels = _levels(rows, names)
    pairs = [(name, ALL) for name in names] + [pair for level in levels for pair in combinations(level, 2)]
    scored = {pair: found for pair in pairs if (found := _scores(results, *pair))}
    tested = [paired(*map(list, zip(*found, strict=True))) for found in scored.values()]  # type: ignore[arg-type]
    p = dict(zip(scored, holm(tested), strict=True))
    p |= {(b, a): value for (a, b), value in p.items()}
    for name in names:
        rows[name]["p_all_tokens"] = p[name, ALL]
    for level in levels:
        best, groups = level[0], letters(level, lambda a, b: p.get((a, b), 1.0) < 1 - LEVEL)
        rivals = {"best": best} | {settings[n]["method"]: n for n in level if settings[n]["method"] in RIVALS}
        anew = next((rivals[method] for method in ANEW if method in rivals), None)
        for name in level:
            row = rows[name]
            row |= {"best": name == best, "groups": groups[name]}
            row |= {f"p_{what}": p[name, rival] for what, rival in rivals.items() if (name, rival) in p}
            if anew is not None and name != anew:
                pairs_with = _scores(results, name, anew)
                row["difficult"] = _mean([a for a, b, _ in pairs_with if b < 1])
                row["simple"] = _mean([a for a, b, _ in pairs_with if b == 1])
    return list(rows.values())


def _row(results: list[Result], name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """What a setting has by itself; nothing before its first answer."""
    scored = _scores(results, name, ALL)
    if not scored:
        return {}
    mine, whole, pictures = (list(column) for column in zip(*scored, strict=True))
    low, high = interval(mine, pictures)
    accuracy, reference = sum(mine) / len(mine), sum(whole) / len(whole)
    came = [r.cells[name].came_to for r in results if name in r.cells and not r.cells[name].error]
    row = {"setting": name, "method": told["method"], "retention": told["retention"],
           "came_to": sum(came) / len(came), "n": len(mine), "accuracy": accuracy, "low": low, "high": high,
           "kept": accuracy / reference if reference else None}  # fmt: skip
    return row | _yes_no(results, name)


def _levels(rows: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[list[str]]:
    """Settings at one retention, the best first; those with a retention of their own are compared with none."""
    levels: dict[float, list[str]] = {}
    for name in names:
        if rows[name]["retention"] is not None:
            levels.setdefault(rows[name]["retention"], []).append(name)
    return [sorted(level, key=lambda name: -rows[name]["accuracy"]) for level in levels.values()]


def _scores(results: list[Result], name: str, other: str) -> list[tuple[float, float, str]]:
    """(its score, the other's, picture) of each question that both answered."""
    pairs = [(r.cells.get(name), r.cells.get(other), r.digest) for r in results]
    return [(a.score, b.score, digest) for a, b, digest in pairs if a and b and not a.error and not b.error]


def _yes_no(results: list[Result], name: str) -> dict[str, float | None]:
    """POPE's figures beside the accuracy; none where no question is answered by yes or no."""
    asked = [(r.cells[name], r.answers[0]) for r in results if r.metric == "yes_no" and name in r.cells]
    pairs = [(says_yes(cell.said), says_yes(true)) for cell, true in asked if not cell.error]
    told = asdict(yes_no_counts(pairs)) if pairs else {}
    told.pop("accuracy", None)
    return {what: None if math.isnan(value) else value for what, value in told.items()}


def _mean(scores: list[float]) -> float | None:
    return sum(scores) / len(scores) if scores else None
