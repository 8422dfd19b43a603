"""`best`: the setting that keeps the most of the answers at a budget, over a data set."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from statistics import median
from typing import Any

from pruning.choosing import Asked, choose, name_of, needs_of
from pruning.cli.race import columns
from pruning.evaluation.timing import first_token_seconds, selection_seconds, signals_anew
from pruning.grids import Scope
from pruning.handover import ours
from pruning.handover.recipes import recipes
from pruning.handover.wanted import Wanted, short_name
from pruning.method import Method
from pruning.models import VLM
from pruning.params import LAMBDA
from pruning.plan import Plan
from pruning.published import Published
from pruning.race.best import Best, best, split
from pruning.race.data import open_data
from pruning.race.folder import Result
from pruning.race.loop import Race
from pruning.race.pictures import Medium
from pruning.race.records import Record
from pruning.race.settings import ALL, Setting, settings_of

TRIED = (0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05)
"""Retentions, the largest first: where a time is asked for, each setting has the first of them that comes within it."""


def candidates(methods: Sequence[Asked], lambdas: Sequence[float]) -> dict[str, Asked]:
    """By label: every method, those with λ at each of these."""
    found: dict[str, Asked] = {}
    for asked in methods:
        if isinstance(asked, Method) and type(asked).has(LAMBDA):
            found |= {f"{asked.name} λ={each:g}": replace(asked, **{LAMBDA: each}) for each in dict.fromkeys(lambdas)}
        else:
            found[name_of(asked)] = asked
    return found


def search(
    vlm: VLM, methods: Sequence[Asked], options: argparse.Namespace, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """The best of the methods at the retention: values of a `Best` by name, and of each setting that was asked its
    `method`; the winner's `command` and `page`, the address that opens it in the app. Raises ValueError
    as `open_data`, `split` and `best`.
    """
    data = open_data(
        options.data,
        metric=options.metric,
        limit=options.limit,
        scenes=options.scenes,
        columns=columns(options.columns),
        suffix=options.suffix,
        fps=options.fps,
        max_frames=options.max_frames,
    )
    asked = candidates(methods, options.lambdas)
    choosing, held = split(data.rows(), options.shuffle, options.held_out)
    if options.within is None:
        settings = {each.name: each for each in settings_of(asked, [options.retention])}
    else:
        settings = {each.name: each for each in within(vlm, asked, choosing[0], options.within / 1e3, options.per)}

    def ask(rows: Sequence[Record], names: Sequence[str]) -> Sequence[Result]:
        chosen = [settings[name] for name in names]
        race = Race(vlm, options.model, data, chosen, options.per, options.positions, options.max_new_tokens)
        return race.answer([(row, "") for row in rows]).results

    found = best([name for name in settings if name != ALL], choosing, held, ask, progress)
    wanted = _wanted(vlm, settings[found.name], options)
    return _values(found, settings) | {
        "data": data.name,
        "within_ms": options.within,
        "model": short_name(str(vlm.model_id)),
        "command": _command(wanted),
        "page": ours.page(wanted),
    }


def within(vlm: VLM, asked: Mapping[str, Asked], record: Record, most: float, per: Scope) -> list[Setting]:
    """Of each by its label the setting of the largest retention at which the first token comes within `most` seconds,
    its selection included, at this question; all tokens first. Those that are too slow at every retention are left out.

    Raises ValueError where fewer than two are left, naming the fastest time that was seen.
    """
    image, seen = record.picture.open(vlm.sampling, vlm.no_clips), list[float]()
    vlm.warmup()
    found = [Setting(ALL, None, 1.0)]
    for label, each in asked.items():
        fixed = isinstance(each, Published | Plan)
        for retention, seconds in _times(vlm, image, record.asked, each, (1.0,) if fixed else TRIED, per):
            seen.append(seconds)
            if seconds <= most:
                found.append(Setting(label, each, None if fixed else retention))
                break
    if len(found) < 3:
        fastest = f"the fastest took {min(seen) * 1e3:.1f} ms" if seen else "none of them can run on this picture"
        raise ValueError(f"{len(found) - 1} settings answer within {most * 1e3:g} ms, and {fastest}: allow more time")
    return found


def told(result: Mapping[str, Any]) -> str:
    """In lines: the table, the winner, what it is worth on questions that chose nothing, and how to run it."""
    names = [row["name"] for row in result["standings"]]
    width = max(map(len, names))
    lines = [
        f"{len(names)} settings, rounds of {', '.join(map(str, result['sizes']))} questions, "
        f"{result['fresh']['n']} held out",
        f"{'setting':<{width}} rounds    n  accuracy (95 %)        behind the best (95 %)      p",
    ]
    for row in result["standings"]:
        line = f"{row['name']:<{width}} {row['rounds']:>6} {row['n']:>4}  {_share(row, 'accuracy', '')}"
        if row["behind"] is not None:
            line += f"  {_share(row, 'behind', 'behind_')}  {row['p']:.3f}"
        lines.append(line)
        if row["failed"]:
            lines.append(f"{'':<{width}} failed at {row['failed']} of {row['n']}: {row['why']}")
    fresh, whole, rival = result["fresh"], result["whole"], result["standings"][1]
    apart = "told apart from" if rival["p"] < 0.05 else "not told apart from"
    lines += [
        f"best: {names[0]}, {apart} the next one, {rival['name']} (p = {rival['p']:.3f})",
        f"on {fresh['n']} questions that chose nothing: {_share(fresh, 'accuracy', '')}, "
        f"all tokens {_share(whole, 'accuracy', '')} (p = {result['p_whole']:.3f})",
        result["command"],
        f"in the app: {result['page']}",
    ]
    return "\n".join(lines)


def _times(
    vlm: VLM, image: Medium, question: str, asked: Asked, retentions: Sequence[float], per: Scope
) -> Iterator[tuple[float, float]]:
    """Retention, and seconds of the selection and to the first token, of each that is within reach."""
    needs = needs_of(asked)
    encoded = vlm.encode([image], needs - {"question"})
    tokens = vlm.tokens(encoded, question, needs)
    for retention in retentions:
        try:
            kept = choose(asked, tokens, vlm.layers, retention, per, lambda anew: vlm.encode([image], asked=anew))
        except ValueError:
            continue
        first = median(first_token_seconds(vlm, encoded, question, kept))  # type: ignore[arg-type]
        fresh = partial(signals_anew, vlm, encoded, question, needs)
        yield retention, first + selection_seconds(asked, fresh, retention, per, vlm.layers)


def _share(row: Mapping[str, Any], what: str, prefix: str) -> str:
    return f"{row[what]:6.1%} ({row[f'{prefix}low']:.1%} to {row[f'{prefix}high']:.1%})"


def _values(found: Best, settings: Mapping[str, Setting]) -> dict[str, Any]:
    values = asdict(found) | {"name": found.name}
    for row in values["standings"]:
        row |= {"method": settings[row["name"]].method, "retention": settings[row["name"]].retention}
    return values


def _wanted(vlm: VLM, setting: Setting, options: argparse.Namespace) -> Wanted:
    assert setting.asked is not None, "all tokens are no candidate"
    return Wanted(
        setting.asked,
        1.0 if setting.retention is None else setting.retention,
        short_name(str(vlm.model_id)),
        vlm.config.model_type,
        options.per,
        options.positions,
        weights=vlm.weights,
    )


def _command(wanted: Wanted) -> str:
    """The winner for the command line; why it cannot be said there, else."""
    (recipe,) = (each for each in recipes(wanted) if each.name == "command_line")
    return (recipe.text or recipe.note).strip()
