"""Whether the patches that an answer hangs on lie on the object that the question is about.

    python -m benchmarks.why [--questions 200] [--way return] [--method uniform] [--retention 0.1] [--out FOLDER]

On held-out scenes it is known which patches show the object asked about. Asked are questions that the model answers
right with all tokens and that are about an object in the picture; of these, for `return`, those that it answers
otherwise with the kept tokens, and for `need` those that it still answers right. A rival names as many patches of the
same ones: the most important to the trained scorer, those that the tower attends to most, and any, by chance.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.models import machine_name
from pruning.choosing import choose, needs_of
from pruning.cli import console
from pruning.evaluation.why import Way, needing, returning
from pruning.importance import raw_importance, signals_for
from pruning.method import METHODS, make
from pruning.models import SHIPPED, VLM, Encoded, hide_progress, load
from pruning.scenes.held_out import SIZES
from pruning.scenes.questions import PLURAL, Question, questions
from pruning.scenes.render import COLORS, HELD_OUT, SHAPES, Scene, render
from pruning.tokens import Selection

RIVALS = ("scorer", "vision_attention")
SHAPE = {plural: shape for shape, plural in PLURAL.items()} | {shape: shape for shape in SHAPES}
PHRASE = re.compile(rf"(?:({'|'.join(COLORS)}) )?\b({'|'.join([*SHAPE, 'objects?'])})\b")


@dataclass(frozen=True)
class Row:
    """One question. named: patches found; on: how many of them show the object, by what named them, chance among
    them as an expectation. measured: forced passes.
    """

    question: str
    family: str
    candidates: int
    named: int
    on: dict[str, float]
    reached: bool
    minimal: bool
    measured: int
    seconds: float


def asked_about(scene: Scene, question: str) -> set[int]:
    """Which objects of a scene, from 0, a question names; none where what it names is not there."""
    found = set[int]()
    for color, noun in PHRASE.findall(question):
        if noun == "object" and not color:
            continue  # "what shape is the object": no phrase of these questions, but of a rephrased one
        found |= {
            i
            for i, each in enumerate(scene.objects)
            if color in ("", each.color) and SHAPE.get(noun, each.shape) == each.shape
        }
    return found


def shows(scene: Scene, encoded: Encoded, objects: set[int]) -> NDArray[np.bool_]:
    """(N,) which visual tokens lie on one of these objects, with at least one of their pixels."""
    mine = np.isin(scene.owner, [i + 1 for i in objects])
    cells = encoded.rects.round().astype(int)
    return np.array([mine[top:bottom, left:right].any() for left, top, right, bottom in cells])


def measure(vlm: VLM, count: int, way: Way, method: str, retention: float, first: int = HELD_OUT) -> Iterator[Row]:
    """A row for each of `count` questions about held-out scenes, one after the other."""
    asked = make(method)
    needs = needs_of(asked).union(*map(signals_for, RIVALS))
    seed, rows = first, 0
    while rows < count:
        scene = render(seed, *SIZES[seed % len(SIZES)])
        seed += 1
        encoded = vlm.encode([Image.fromarray(scene.image)], needs - {"question"})
        for question in questions(scene, 0):
            objects = asked_about(scene, question.text)
            if objects and rows < count:
                kept = choose(asked, vlm.tokens(encoded, question.text, needs), vlm.layers, retention)
                assert isinstance(kept, Selection)
                row = _row(vlm, encoded, question, kept, way, shows(scene, encoded, objects))
                if row is not None:
                    rows += 1
                    yield row


def _row(
    vlm: VLM, encoded: Encoded, question: Question, kept: Selection, way: Way, on: NDArray[np.bool_]
) -> Row | None:
    """None for a question that this way has nothing to say about."""
    full, pruned = (vlm.answer(encoded, question.text, each) for each in (None, kept.indices))
    same = list(full.ids) == list(pruned.ids)
    if full.text != question.answer or same != (way == "need"):
        return None
    stays, start, n = kept.indices.tolist(), time.perf_counter(), encoded.tokens.n
    look = returning if way == "return" else needing
    *_, found = look(vlm, encoded, question.text, full, stays, n)
    seconds = time.perf_counter() - start
    candidates = [i for i in range(n) if (i in set(stays)) == (way == "need")]
    named = len(found.patches)
    hits = {"found": float(on[list(found.patches)].sum())}
    for source in RIVALS:
        scores = raw_importance(vlm.tokens(encoded, question.text, signals_for(source)), source, "why")
        best = sorted(candidates, key=lambda i: -float(scores[i]))[:named]
        hits[source] = float(on[best].sum())
    hits["chance"] = named * float(on[candidates].mean())
    return Row(
        question.text,
        question.family,
        len(candidates),
        named,
        hits,
        found.reached,
        found.minimal,
        found.done,
        seconds,
    )


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Shares over all patches that were named, and in the mean of the questions that any were named for."""
    named, told = sum(row.named for row in rows), [row for row in rows if row.named]
    return {
        "questions": len(rows),
        "reached": sum(row.reached for row in rows),
        "minimal": sum(row.minimal for row in rows),
        "patches": named,
        "median_patches": float(np.median([row.named for row in told])) if told else None,
        "share_of_patches": {by: sum(row.on[by] for row in rows) / named for by in rows[0].on} if told else None,
        "mean_of_questions": {by: float(np.mean([row.on[by] / row.named for row in told])) for by in rows[0].on}
        if told
        else None,
        "median_measured": float(np.median([row.measured for row in rows])),
        "median_seconds": float(np.median([row.seconds for row in rows])),
    }


def markdown(machine: str, found: dict[str, Any]) -> str:
    """The table as docs/measured.md shows it."""
    head = "| named by | share of all named patches on the object | mean of the questions |"
    lines = [machine, "", head, "|---|---|---|"]
    for by, share in (found["share_of_patches"] or {}).items():
        lines.append(f"| {by} | {share:.1%} | {found['mean_of_questions'][by]:.1%} |")
    return "\n".join(lines)


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--way", choices=get_args(Way), default="return", help="default: %(default)s")
    parser.add_argument("--method", choices=sorted(METHODS), default="uniform", help="default: %(default)s")
    parser.add_argument("--retention", type=float, default=0.1, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write why.json and why.md there as well")
    options = parser.parse_args(arguments)
    hide_progress()
    vlm = load(str(SHIPPED))
    rows = list(measure(vlm, options.questions, options.way, options.method, options.retention))
    found = summary(rows)
    where = f"{machine_name(torch.device('cpu'))}, torch {torch.__version__}"
    setting = f"{options.way}, {options.method} at {options.retention:g}"
    machine = (
        f"{setting}: {found['questions']} questions, {found['reached']} of them with an answer to why, "
        f"{found['patches']} patches named; median {found['median_measured']:.0f} forced passes, "
        f"{found['median_seconds']:.1f} s a question; {where}"
    )
    table, whole = markdown(machine, found), found | {"rows": [asdict(row) for row in rows]}
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "why.md").write_text(table + "\n", encoding="utf-8")
        (options.out / "why.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(console.as_json(whole, indent=1) if options.json else table)


if __name__ == "__main__":
    main()
