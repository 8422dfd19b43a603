"""ATP-LLaVA's learned thresholds beside the training-free methods between layers that they are nearest to.

    python -m benchmarks.thresholds [--pruner FOLDER] [--scenes 60] [--retentions 0.5 0.35 0.3] [--out FOLDER]

On held-out scenes, questions of all families, the same ones for all, greedy answers. Two questions: at an exact budget,
the mean over the layers of the share alive, its ranking beside FastV's, PyramidDrop's and chance; and with a budget of
its own, sample by sample what passes its thresholds, beside the others at the mean that this came to. Times are the
processor's, medians over the pictures, one call each after one that does not count: a prefill with the cuts of half
the budget, by thresholds and by chance in turn, so that the difference is what reading, scoring and choosing cost.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from PIL import Image

from benchmarks.models import machine_name
from benchmarks.pruners import milliseconds
from pruning.cli import console
from pruning.models import SHIPPED, VLM, Encoded, Sample, hide_progress, load
from pruning.plan import Cut, Plan, plan_of
from pruning.scenes.held_out import held_out
from pruning.scenes.worlds import SCENES
from pruning.staged import StagedMethod, make_staged

TIMED = 0.5  # equivalent retention
OWN = make_staged("atp_llava", budget="own")
RULES: dict[str, StagedMethod] = {
    "atp_llava": make_staged("atp_llava"),
    "fastv": make_staged("fastv"),
    "pyramiddrop": make_staged("pyramiddrop"),
    "chance": make_staged("random_inner", cuts="quarters"),
}


def everywhere(method: StagedMethod, vlm: VLM) -> Plan:
    """The cuts of ATP-LLaVA, each free to keep all tokens."""
    return Plan(tuple(Cut(after, method, 1.0) for after, _ in OWN.shape(vlm.layers)))


def measure(vlm: VLM, scenes: int, retentions: Sequence[float]) -> dict[str, Any]:
    """Accuracy in percent by "rule retention", of all tokens and of its own budgets; what these came to; times in ms.

    Raises ValueError for a model without ATP-LLaVA's thresholds, or a retention out of reach.
    """
    if OWN.name not in vlm.pruners:
        raise ValueError(f"{vlm.title} has no trained thresholds of atp_llava: name a folder with --pruner")
    asked = [
        (vlm.encode([Image.fromarray(picture.image)]), question)
        for picture, questions in held_out(SCENES, scenes)
        for question in questions
    ]
    own = [vlm.answer(encoded, question.text, everywhere(OWN, vlm), max_new_tokens=4) for encoded, question in asked]
    came = [answer.trace.equivalent for answer in own if answer.trace is not None]
    right = defaultdict[str, list[bool]](list)
    for (encoded, question), said in zip(asked, own, strict=True):
        n, names, samples = encoded.tokens.n, ["all"], [Sample(encoded, question.text)]
        for name, rule in RULES.items():
            for at, retention in [(f"{each:g}", each) for each in retentions] + [("own", mean(came))]:
                if (name, at) != ("atp_llava", "own"):
                    names.append(f"{name} {at}")
                    samples.append(Sample(encoded, question.text, plan_of(rule, n, vlm.layers, retention)))
        for name, answer in zip(names, vlm.answer_batch(samples, max_new_tokens=4), strict=True):
            right[name].append(answer.text == question.answer)
        right["atp_llava own"].append(said.text == question.answer)
    pictures = {id(encoded): (encoded, question.text) for encoded, question in asked}
    times = [_times(vlm, *each) for each in pictures.values()]
    thresholds, chance, plain = (median(each) for each in zip(*times, strict=True))
    return {
        "questions": len(asked),
        "accuracy": {name: 100 * mean(values) for name, values in right.items()},
        "own": {"mean": mean(came), "least": min(came), "most": max(came)},
        "times": {"thresholds_ms": thresholds, "chance_ms": chance, "prefill_ms": plain,
                  "share_of_prefill": (thresholds - chance) / plain},
    }  # fmt: skip


def _times(vlm: VLM, encoded: Encoded, question: str) -> tuple[float, float, float]:
    """Milliseconds of a prefill: through the cuts for TIMED by thresholds, the same ones by chance, and none."""
    plan = plan_of(RULES["atp_llava"], encoded.tokens.n, vlm.layers, TIMED)
    chance = Plan(tuple(replace(cut, rule=RULES["chance"]) for cut in plan.cuts))
    runs = (plan, chance, None)
    spent = [milliseconds(lambda run=run: vlm.logprobs(encoded, question, [0], [run])) for run in runs]  # type: ignore[misc]
    return spent[0], spent[1], spent[2]


def table(result: dict[str, Any], retentions: Sequence[float]) -> str:
    """Markdown."""
    accuracy, own, times = result["accuracy"], result["own"], result["times"]
    keys = [f"{each:g}" for each in retentions] + ["own"]
    heads = [f"{each:.0%}" for each in retentions] + [f"its own, {own['mean']:.0%} in the mean"]

    def line(*cells: str) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [line("rule", *heads), "|---" * (1 + len(heads)) + "|"]
    lines += [line(name, *(f"{accuracy[name + ' ' + key]:.1f}" for key in keys)) for name in RULES]
    told = [
        f"All tokens: {accuracy['all']:.1f} % of {result['questions']} questions.",
        f"Its own budgets came to {own['least']:.0%} to {own['most']:.0%}, {own['mean']:.1%} in the mean.",
        f"Cuts for {TIMED:.0%}: {times['thresholds_ms']:.2f} ms by thresholds, {times['chance_ms']:.2f} ms by chance, "
        f"none {times['prefill_ms']:.2f} ms: choosing takes {times['share_of_prefill']:.0%} of a prefill.",
    ]
    return "\n".join([*lines, "", *told])


@console.command
def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code: 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.thresholds", description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", default=str(SHIPPED))
    parser.add_argument("--pruner", default="", help="folder of trained pruners; default: beside the model")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--retentions", type=float, nargs="+", default=[0.5, 0.35, 0.3])
    parser.add_argument("--out", type=Path, help="folder for thresholds.json")
    options = parser.parse_args(arguments)
    hide_progress()
    try:
        result = measure(load(options.model, pruner=options.pruner, device="cpu"), options.scenes, options.retentions)
    except ValueError as error:
        parser.error(str(error))
    print(table(result, options.retentions))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        told = {"machine": machine_name(torch.device("cpu")), **result}
        (options.out / "thresholds.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
