"""Trained pruners beside what each was taught with, and what they cost of the prefill that they prune.

    python -m benchmarks.pruners [--pruner FOLDER] [--scenes 60] [--retentions 0.25 0.1 0.05] [--out FOLDER]

On held-out scenes, questions of all families, the same ones for all, greedy answers on the tokens that each ranks
first: CoViPAL's module; its teacher, the attention of the layer that it learned from, which takes a whole prefill to
know; DToP's head; the same head's confidence alone, the least sure tokens first; the model's scorer; and any tokens, by
chance. What the model has no weights for is left out, and so is what prunes between layers: `benchmarks.thresholds`.
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
from statistics import median
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
from pruning.scenes.worlds import SCENES
from pruning.training.fit import forced
from pruning.training.pruners import LAYER, guidance, visual_places

RANKED = {
    "covipal": "covipal",
    "teacher": "covipal",
    "dtop": "dtop",
    "confidence": "dtop",
    "scorer": "scorer",
    "chance": "",
}
"""What ranks the tokens, and the signal that a model must have for it."""


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
    by = {"covipal": make("covipal"), "dtop": make("dtop"), "confidence": make("dtop", per_class=0),
          "scorer": make("vision_selector")}  # fmt: skip
    for name in there & by.keys():
        found[name] = by[name].select(vlm.tokens(encoded, question, by[name].needs), n).order
    return found


def measure(vlm: VLM, served: VLM, scenes: int, retentions: Sequence[float]) -> dict[str, Any]:
    """Accuracy in percent of each ranking at each retention and of all tokens; times in ms.

    vlm: with eager attention, which the teacher is read from. served: the same one as it is served, which is timed: an
    eager prefill takes about three times as long, and a module beside it looks cheap.

    Raises ValueError for a model without a trained pruner.
    """
    if not vlm.pruners:
        raise ValueError(f"{vlm.title} has no trained pruner: name one with --pruner")
    layer, right = round(LAYER * vlm.layers), defaultdict[str, list[bool]](list)
    asked, times = 0, {name: (list[float](), list[float]()) for name in sorted(vlm.pruners.keys() - INSIDE)}
    for number, (picture, questions) in enumerate(held_out(SCENES, scenes)):
        encoded = vlm.encode([Image.fromarray(picture.image)], frozenset({"scorer"}) & vlm.signals)
        n, samples, wanted, keys = encoded.tokens.n, list[Sample](), list[str](), list[str]()
        for question in questions:
            orders = rankings(vlm, encoded, question.text, layer, number)
            asked += 1
            for name, retention in [("all", 1.0), *((name, each) for name in orders for each in retentions)]:
                kept = None if name == "all" else orders[name][: keep_count(n, retention)].sort().values
                samples.append(Sample(encoded, question.text, kept))
                wanted.append(question.answer)
                keys.append(name if name == "all" else f"{name} {retention:g}")
        for key, answer, truth in zip(keys, vlm.answer_batch(samples, max_new_tokens=4), wanted, strict=True):
            right[key].append(answer.text == truth)
        for name, spent in times.items():
            if questions:
                for each, ms in zip(spent, _times(served, encoded, questions[0].text, name), strict=True):
                    each.append(ms)
    return {
        "questions": asked,
        "layer": layer,
        "accuracy": {key: 100 * sum(values) / len(values) for key, values in right.items()},
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
    accuracy = result["accuracy"]

    def line(*cells: str) -> str:
        return f"| {' | '.join(cells)} |"

    names = [name for name in RANKED if f"{name} {retentions[0]:g}" in accuracy]
    lines = [line("ranked by", *(f"{each:.0%} kept" for each in retentions)), "|---" * (1 + len(retentions)) + "|"]
    lines += [line(name, *(f"{accuracy[f'{name} {each:g}']:.1f}" for each in retentions)) for name in names]
    told = [f"All tokens: {accuracy['all']:.1f} % of {result['questions']} questions."]
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
