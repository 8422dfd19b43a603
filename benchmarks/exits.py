"""DToP in its own form: easy tokens stop between the layers of a vision tower that labels a picture token by token.

    python -m benchmarks.exits [--scenes 60] [--steps 100] [--thresholds 0.95 0.9] [--out FOLDER]

arXiv 2308.01045. The task is segmentation of drawn scenes, whose labels are known: for every token the ground, one of
seven shapes or one of nine digits. After two and three of the tower's four layers (six and eight of twelve in the
paper) a head names each token. Those surer than p0 stop there, what the head said of them stands, and later layers are
run on the others alone, but for the k = 5 surest of every class, which go on as its context; the last head names what
is left. Printed for all tokens, for each p0, for the first p0 without context, and with as many tokens stopped by
chance: accuracy and mean IoU over the labelled tokens, and how many were stopped.

Differs: a head is a linear map on the four patches of a token, not three layers of a decoder, so that confidence is its
highest probability; four patches stop together; only the heads are trained, with all tokens there, on the shipped
tower, which has windows in two of its layers. No number here can be put beside one of the paper's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models import machine_name
from pruning.cli import console
from pruning.methods.dtop import leaving
from pruning.models import SHIPPED, VLM, hide_progress, load
from pruning.scenes.held_out import held_out
from pruning.scenes.worlds import SCENES
from pruning.training.labels import CLASSES, IGNORED, pixel_classes, token_classes
from pruning.training.records import SceneRecords

EXITS = (2, 3)  # layers that have run before tokens may stop
PER_CLASS = 5
BATCH, RATE = 8, 1e-2
CHANCE = "as many, by chance"
Stops = Callable[[Tensor, Tensor], Tensor]
"""How sure the head is of each token (n,), and of which class (n,) -> (n,) bool: which of them stop."""


@dataclass(frozen=True)
class Opened:
    """A picture as the tower's first layer receives it, its N tokens of P patches in the tower's order.

    rows: (N·P, C). around: cosines and sines of the positions, (N·P, d) each. ends: of each layer, where the parts end
    within which it attends, in patches, from 0. labels: (N,) int64, what each token shows.
    """

    rows: Tensor
    around: tuple[Tensor, Tensor]
    ends: tuple[Tensor, ...]
    labels: Tensor


def opened(vlm: VLM, image: Image.Image, shows: Any) -> Opened:
    """shows: (H, W) int64, the class of every pixel."""
    calls: list[tuple[Tensor, dict[str, Any]]] = []
    places: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in vlm.family.vision_layers:
            note = layer.register_forward_pre_hook(
                lambda _layer, args, named: calls.append((args[0], named)), with_kwargs=True
            )
            hooks.callback(note.remove)
        note = vlm.family.projector.register_forward_hook(lambda _module, _args, made: places.append(made))
        hooks.callback(note.remove)
        encoded = vlm.encode([image])
    # The projector's rows are in the tower's order, the features in that of the picture: equal rows tell which is it.
    order = torch.cdist(places[0].float(), encoded.tokens.features).argmin(1)
    labels = torch.from_numpy(token_classes(shows, encoded.rects))[order]
    ends = tuple(named["cu_seqlens"] for _, named in calls)
    return Opened(calls[0][0], calls[0][1]["position_embeddings"], ends, labels)


def labelled(
    vlm: VLM, heads: Sequence[nn.Linear], picture: Opened, stops: Stops | None
) -> tuple[Tensor, list[int], list[Tensor]]:
    """(N,) the class that each token is given, how many tokens each layer is run on, and the logits of every head.

    stops: None, all tokens go through all layers.
    """
    layers, n = vlm.family.vision_layers, len(picture.labels)
    each = len(picture.rows) // n
    alive, rows, around = torch.arange(n), picture.rows, picture.around
    classes, run, told = torch.full((n,), IGNORED), list[int](), list[Tensor]()
    for number, layer in enumerate(layers):
        run.append(len(alive))
        part = torch.bucketize(alive * each, picture.ends[number][1:], right=True)
        ends = F.pad(part.unique_consecutive(return_counts=True)[1].cumsum(0) * each, (1, 0)).int()
        with torch.no_grad():
            rows = layer(rows, cu_seqlens=ends, position_embeddings=around)
        if number + 1 not in (*EXITS, len(layers)):
            continue
        seen = rows.view(len(alive), -1)
        told.append(heads[len(told)](F.layer_norm(seen, seen.shape[-1:])))
        sure, found = told[-1].detach().softmax(1).max(1)
        classes[alive] = found
        if stops is not None and number + 1 < len(layers):
            stay = ~stops(sure, found)
            rows = rows.view(len(alive), each, -1)[stay].flatten(0, 1)
            around = tuple(x.view(len(alive), each, -1)[stay].flatten(0, 1) for x in around)  # type: ignore[assignment]
            alive = alive[stay]
    return classes, run, told


def trained(vlm: VLM, steps: int, seed: int = 0) -> list[nn.Linear]:
    """A head behind each exit and one behind the last layer, on drawn scenes with all tokens."""
    width = int(vlm.config.vision_config.hidden_size) * vlm.config.vision_config.spatial_merge_size**2
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        heads = [nn.Linear(width, len(CLASSES)) for _ in (*EXITS, None)]
    optimiser = torch.optim.AdamW([weight for head in heads for weight in head.parameters()], lr=RATE)
    records = SceneRecords(seed)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        for place in range(step * BATCH, (step + 1) * BATCH):
            record = records.at(place)
            assert record.shows is not None
            picture = opened(vlm, record.picture(), record.shows())
            _, _, told = labelled(vlm, heads, picture, None)
            losses = [F.cross_entropy(logits, picture.labels, ignore_index=IGNORED) for logits in told]
            (torch.stack(losses).sum() / BATCH).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return heads


def scores(confusion: Tensor) -> tuple[float, float]:
    """Accuracy and mean IoU in percent, of (C, C) counts, rows what is shown; over the classes that are shown.

    >>> scores(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    (83.33..., 70.83...)
    """
    right, shown, said = confusion.diagonal().double(), confusion.sum(1), confusion.sum(0)
    iou = right / (shown + said - right).clamp(min=1)
    return 100 * float(right.sum() / shown.sum()), 100 * float(iou[shown > 0].mean())


def measure(vlm: VLM, heads: Sequence[nn.Linear], scenes: int, thresholds: Sequence[float]) -> dict[str, Any]:
    """By rule: accuracy and mean IoU in percent, the share of tokens that stopped, and of the tower's work that is
    done, in tokens times layers.
    """
    rules: dict[str, tuple[float, int]] = {"all tokens": (1.0, 0)}
    rules |= {f"p0 = {p0:g}, k = {PER_CLASS}": (p0, PER_CLASS) for p0 in thresholds}
    rules |= {f"p0 = {thresholds[0]:g}, k = 0": (thresholds[0], 0)}
    names = [*rules, CHANCE]
    confusion = {name: torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64) for name in names}
    stopped, work = {name: list[float]() for name in names}, {name: list[float]() for name in names}
    dice = torch.Generator().manual_seed(0)
    for drawn, _ in held_out(SCENES, scenes):
        picture = opened(vlm, Image.fromarray(drawn.image), pixel_classes(drawn))
        stops = {name: partial(leaving, threshold=p0, per_class=k) for name, (p0, k) in rules.items()}
        found = {name: labelled(vlm, heads, picture, rule) for name, rule in stops.items()}
        found[CHANCE] = labelled(vlm, heads, picture, by_chance(found[names[1]][1], dice))
        known = picture.labels != IGNORED
        for name, (classes, run, _) in found.items():
            at = picture.labels[known] * len(CLASSES) + classes[known]
            confusion[name] += torch.bincount(at, minlength=len(CLASSES) ** 2).view(len(CLASSES), -1)
            stopped[name].append(1 - run[-1] / run[0])
            work[name].append(mean(run) / run[0])
    return {
        name: dict(zip(("accuracy", "mean_iou"), scores(confusion[name]), strict=True))
        | {"stopped": mean(stopped[name]), "work": mean(work[name])}
        for name in names
    }


def by_chance(run: Sequence[int], dice: torch.Generator) -> Stops:
    """As many tokens stop at each exit as where layers were run on so many."""
    counts = iter([run[at - 1] - run[at] for at in EXITS])

    def stops(sure: Tensor, _classes: Tensor) -> Tensor:
        chosen = torch.randperm(len(sure), generator=dice)[: next(counts)]
        return torch.zeros(len(sure), dtype=torch.bool).index_fill(0, chosen, True)

    return stops


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| rule | accuracy | mean IoU | tokens stopped early | work of the tower |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {each['accuracy']:.1f} | {each['mean_iou']:.1f} | {each['stopped']:.0%} | {each['work']:.0%} |"
        for name, each in result.items()
    ]
    return "\n".join(lines)


@console.command
def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code: 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exits", description=__doc__, allow_abbrev=False)
    parser.add_argument("--scenes", type=int, default=60, help="held out, to measure on (%(default)s)")
    parser.add_argument("--steps", type=int, default=100, help=f"of {BATCH} scenes, to train the heads (%(default)s)")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.95, 0.9], help="p0 (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder for exits.json")
    options = parser.parse_args(arguments)
    if options.steps < 1 or options.scenes < 1:
        parser.error("--steps and --scenes must be at least 1")
    if wrong := [each for each in options.thresholds if not 0 <= each <= 1]:
        parser.error(f"--thresholds {wrong[0]:g}: a probability from 0 to 1, such as 0.95")
    hide_progress()
    vlm = load(SHIPPED, device="cpu")
    result = measure(vlm, trained(vlm, options.steps), options.scenes, options.thresholds)
    print(table(result))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        told = {"machine": machine_name(torch.device("cpu")), "rules": result}
        (options.out / "exits.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
