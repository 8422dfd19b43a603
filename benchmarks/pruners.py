"""Trained pruners beside what each was taught with, and what they cost of the prefill that they prune.

    python -m benchmarks.pruners [--pruner FOLDER] [--scenes 60] [--retentions 0.25 0.1 0.05] [--out FOLDER]

On held-out scenes, questions of all families, the same ones for all, greedy answers on the tokens that each ranks
first: CoViPAL's module; its teacher, the attention of the layer that it learned from, which takes a whole prefill to
know; DToP's head; the same head's confidence alone, the least sure tokens first; QTSplus' selector; the same one
untrained, the first layer's attention of the question's words without positions; MMTok, which reads the question
untrained too; the model's scorer; and any tokens, by chance. What the model has no weights for is left out, and so is
what prunes between layers: `benchmarks.thresholds`. Where QTSplus is there, the last column is its own budget, question
by question, and the others at the mean that it came to.
Times are the processor's, medians over the pictures, one call each after one that does not count, module and prefill in
turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.models import machine_name
from pruning import ops
from pruning.budget import keep_count
from pruning.cli import console
from pruning.method import make
from pruning.models import SHIPPED, VLM, Encoded, Sample, hide_progress, load
from pruning.models.trained import INSIDE
from pruning.scenes.held_out import held_out
from pruning.scenes.questions import Question
from pruning.scenes.worlds import SCENES
from pruning.signals import LATER
from pruning.training.fit import forced
from pruning.training.pruners import LAYER, guidance, visual_places
from pruning.training.qtsplus import new_selector

RANKED = {
    "covipal": "covipal",
    "teacher": "covipal",
    "dtop": "dtop",
    "confidence": "dtop",
    "qtsplus": "qtsplus",
    "untrained": "qtsplus",
    "mmtok": "qtsplus",
    "scorer": "scorer",
    "chance": "",
}
"""What ranks the tokens, and the signal that a model must have for it."""
BY = {
    "covipal": make("covipal"),
    "dtop": make("dtop"),
    "confidence": make("dtop", per_class=0),
    "qtsplus": make("qtsplus"),
    "mmtok": make("mmtok"),
    "scorer": make("vision_selector"),
}
OWN = make("qtsplus", budget="own")


def teacher(vlm: VLM, encoded: Encoded, question: str, layer: int) -> Tensor:
    """(N,) float32: what the layer's attention gives each visual token in a prefill of all of them."""
    prompt = vlm.prompt(encoded, question)
    with torch.no_grad():
        output = forced(vlm, prompt.input_ids, prompt.positions, encoded.rows(None), 1, output_attentions=True)
    return guidance(output.attentions[layer][0], visual_places(vlm, encoded, prompt.input_ids))


def rankings(vlm: VLM, encoded: Encoded, question: str, layer: int, seed: int) -> dict[str, Tensor]:
    """(N,) int64 of each ranking that the model has: all tokens, what it keeps first in front."""
    there = {name for name, signal in RANKED.items() if not signal or signal in vlm.signals}
    n = encoded.tokens.n
    found = {"chance": torch.randperm(n, generator=torch.Generator().manual_seed(seed))}
    if "teacher" in there:
        found["teacher"] = ops.topk(teacher(vlm, encoded, question, layer).cpu(), n)
    for name in there & BY.keys():
        found[name] = BY[name].select(vlm.tokens(encoded, question, BY[name].needs), n).order
    if "untrained" in there:
        words = vlm.tokens(encoded, question, frozenset({"question"})).signal("question")
        with torch.no_grad():
            found["untrained"] = ops.topk(new_selector(vlm, 0).relevance(encoded.tokens.features, words), n)
    return found


def own_counts(vlm: VLM, asked: Sequence[tuple[Encoded, Question, dict[str, Tensor]]]) -> list[int]:
    """How many tokens QTSplus takes for each question; none where the model has no weights for it."""
    if OWN.name not in vlm.signals:
        return []
    return [OWN.limit(vlm.tokens(encoded, question.text, OWN.needs)) for encoded, question, _ in asked]


def measure(vlm: VLM, served: VLM, scenes: int, retentions: Sequence[float]) -> dict[str, Any]:
    """Accuracy in percent of each ranking at each retention and of all tokens; times in ms.

    vlm: with eager attention, which the teacher is read from. served: the same one as it is served, which is timed: an
    eager prefill takes about three times as long, and a module beside it looks cheap.

    Raises ValueError for a model without a trained pruner.
    """
    if not vlm.pruners:
        raise ValueError(f"{vlm.title} has no trained pruner: name one with --pruner")
    layer, right = round(LAYER * vlm.layers), defaultdict[str, list[bool]](list)
    times = {name: (list[float](), list[float]()) for name in sorted(vlm.pruners.keys() - INSIDE)}
    needs = frozenset[str]().union(*(method.needs for method in BY.values())) - LATER
    asked = list[tuple[Encoded, Question, dict[str, Tensor]]]()
    for number, (picture, questions) in enumerate(held_out(SCENES, scenes)):
        encoded = vlm.encode([Image.fromarray(picture.image)], needs & vlm.signals)
        asked += [(encoded, each, rankings(vlm, encoded, each.text, layer, number)) for each in questions]
        for name, spent in times.items():
            if questions:
                for each, ms in zip(spent, _times(served, encoded, questions[0].text, name), strict=True):
                    each.append(ms)
    own = own_counts(vlm, asked)
    shares = [count / encoded.tokens.n for count, (encoded, _, _) in zip(own, asked, strict=False)]
    for at, (encoded, question, orders) in enumerate(asked):
        n = encoded.tokens.n
        counts = {f"{each:g}": keep_count(n, each) for each in retentions}
        counts |= {"own": keep_count(n, mean(shares))} if own else {}
        kept = {f"{name} {key}": order[:k] for name, order in orders.items() for key, k in counts.items()}
        if own:
            kept["qtsplus own"] = orders["qtsplus"][: own[at]]
        samples = [Sample(encoded, question.text), *(Sample(encoded, question.text, k.sort().values)
                                                     for k in kept.values())]  # fmt: skip
        for key, answer in zip(["all", *kept], vlm.answer_batch(samples, max_new_tokens=4), strict=True):
            right[key].append(answer.text == question.answer)
    return {
        "questions": len(asked),
        "layer": layer,
        "accuracy": {key: 100 * mean(values) for key, values in right.items()},
        "own": {"mean": mean(shares), "least": min(shares), "most": max(shares)} if own else None,
        "times": {
            name: {
                "module_ms": median(module),
                "prefill_ms": median(prefill),
                "share_of_prefill": median(module) / median(prefill),
            }
            for name, (module, prefill) in times.items()
        },
    }


def _times(vlm: VLM, encoded: Encoded, question: str, name: str) -> tuple[float, float]:
    """Milliseconds of a module, the embeddings of the words that it reads included, and of a prefill of all tokens."""

    def module() -> None:
        vlm.tokens(encoded, question, frozenset({name}))

    def prefill() -> None:
        vlm.logprobs(encoded, question, [0], [None])

    return milliseconds(module), milliseconds(prefill)


def milliseconds(call: Callable[[], object]) -> float:
    """Processor time of a call, after one that does not count: what other work on the machine takes is left out."""
    call()
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def table(result: dict[str, Any], retentions: Sequence[float]) -> str:
    """Markdown."""
    accuracy, own = result["accuracy"], result["own"]
    keys = [f"{each:g}" for each in retentions] + ["own"] * bool(own)
    heads = [f"{each:.0%} kept" for each in retentions]
    heads += [f"QTSplus' own, {own['mean']:.0%} in the mean"] if own else []

    def line(*cells: str) -> str:
        return f"| {' | '.join(cells)} |"

    names = [name for name in RANKED if f"{name} {retentions[0]:g}" in accuracy]
    lines = [line("ranked by", *heads), "|---" * (1 + len(heads)) + "|"]
    lines += [line(name, *(f"{accuracy[f'{name} {key}']:.1f}" for key in keys)) for name in names]
    told = [f"All tokens: {accuracy['all']:.1f} % of {result['questions']} questions."]
    if own:
        came = f"{own['least']:.0%} to {own['most']:.0%}, {own['mean']:.1%} in the mean"
        told.append(f"QTSplus' own budgets came to {came}.")
    told += [
        f"{name}: module {each['module_ms']:.2f} ms, prefill of all tokens {each['prefill_ms']:.2f} ms: "
        f"{each['share_of_prefill']:.1%} of it."
        for name, each in result["times"].items()
    ]
    return "\n".join([*lines, "", *told])


@console.command
def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code: 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruners", description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", default=str(SHIPPED))
    parser.add_argument("--pruner", default="", help="folder of trained pruners; default: beside the model")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--retentions", type=float, nargs="+", default=[0.25, 0.1, 0.05])
    parser.add_argument("--out", type=Path, help="folder for pruners.json")
    options = parser.parse_args(arguments)
    hide_progress()
    try:
        vlm = load(options.model, pruner=options.pruner, attention="eager", device="cpu")
        served = load(options.model, pruner=options.pruner, device="cpu")
        result = measure(vlm, served, options.scenes, options.retentions)
    except ValueError as error:
        parser.error(str(error))
    print(table(result, options.retentions))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        told = {"machine": machine_name(torch.device("cpu")), **result}
        (options.out / "pruners.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
